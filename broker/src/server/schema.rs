//! The shape of the API's messages, taken from the compiled protos, and counting what is inside an encoded message
//! before it is decoded.
//!
//! An empty message inside another takes two bytes on the wire and some hundred in memory, so a limit on bytes alone
//! would let a small request fill the memory. The [`Scanner`] walks the encoded bytes as they arrive, in pieces of any
//! size, and counts the messages, strings and byte strings that decoding would build. It copies nothing and jumps over
//! payloads.

use std::collections::HashMap;

use prost::Message as _;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};

/// One method of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Method {
    /// Its place in [`Schema::method_names`].
    pub(crate) number: usize,
    /// What it takes.
    pub(crate) request: MessageId,
    /// What it answers.
    pub(crate) response: MessageId,
    /// Whether messages flow after the first of either side.
    pub(crate) is_stream: bool,
}

/// A message type of a [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageId(usize);

/// The message types and methods of the API.
#[derive(Debug)]
pub(crate) struct Schema {
    messages: Vec<Vec<(u32, Field)>>,
    methods: HashMap<String, Method>,
    method_names: Vec<String>,
}

/// A field that decoding builds something for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Message(MessageId),
    Bytes,
}

/// The files of the API for clients, as an encoded `FileDescriptorSet`: without what only brokers say to each other.
pub(super) fn client_descriptors() -> Vec<u8> {
    let mut descriptors = FileDescriptorSet::decode(highwater_proto::FILE_DESCRIPTOR_SET)
        .expect("the compiled protos are a descriptor set");
    descriptors
        .file
        .retain(|file| !file.package().starts_with("highwater.internal."));
    descriptors.encode_to_vec()
}

/// Why an encoded message is refused before it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a protobuf message: {0}")]
pub(crate) struct Malformed(&'static str);

impl Schema {
    /// Reads an encoded `FileDescriptorSet`.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn parse(descriptors: &[u8]) -> Result<Self, prost::DecodeError> {
        let files = FileDescriptorSet::decode(descriptors)?.file;
        let mut types = Vec::new();
        for file in &files {
            for message in &file.message_type {
                collect(&format!(".{}", file.package()), message, &mut types);
            }
        }
        let ids: HashMap<&str, MessageId> = types
            .iter()
            .enumerate()
            .map(|(at, (name, _))| (name.as_str(), MessageId(at)))
            .collect();
        let messages = types
            .iter()
            .map(|(_, message)| fields(message, &ids))
            .collect();
        let mut methods = HashMap::new();
        let mut method_names = Vec::new();
        for file in &files {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let types = ids
                        .get(method.input_type())
                        .zip(ids.get(method.output_type()));
                    if let Some((request, response)) = types {
                        let is_stream = method.client_streaming() || method.server_streaming();
                        let method_of_path = Method {
                            number: method_names.len(),
                            request: *request,
                            response: *response,
                            is_stream,
                        };
                        methods.insert(path, method_of_path);
                        method_names.push(method.name().to_owned());
                    }
                }
            }
        }
        Ok(Self {
            messages,
            methods,
            method_names,
        })
    }

    /// The method at a request path such as `/highwater.v1.FetchService/Fetch`.
    pub(crate) fn method(&self, path: &str) -> Option<Method> {
        self.methods.get(path).copied()
    }

    /// Names of all methods, without their services, by number.
    pub(crate) fn method_names(&self) -> &[String] {
        &self.method_names
    }

    fn field(&self, message: MessageId, number: u32) -> Option<Field> {
        self.messages[message.0]
            .iter()
            .find(|(known, _)| *known == number)
            .map(|(_, field)| *field)
    }
}

fn collect<'a>(
    prefix: &str,
    message: &'a DescriptorProto,
    types: &mut Vec<(String, &'a DescriptorProto)>,
) {
    let name = format!("{prefix}.{}", message.name());
    for nested in &message.nested_type {
        collect(&name, nested, types);
    }
    types.push((name, message));
}

fn fields(message: &DescriptorProto, ids: &HashMap<&str, MessageId>) -> Vec<(u32, Field)> {
    message
        .field
        .iter()
        .filter_map(|field| {
            let number = u32::try_from(field.number()).ok()?;
            match field.r#type() {
                Type::Message => Some((number, Field::Message(*ids.get(field.type_name())?))),
                Type::String | Type::Bytes => Some((number, Field::Bytes)),
                _ => None,
            }
        })
        .collect()
}

/// Counts the elements of one encoded message, in pieces.
#[derive(Debug)]
pub(crate) struct Scanner {
    /// Bytes seen.
    at: u64,
    /// Messages that are open, outermost first: type and where it ends.
    open: Vec<(MessageId, u64)>,
    state: State,
    elements: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In a field's key.
    Key(Varint),
    /// In a number.
    Number(Varint),
    /// In the length of a field of this shape.
    Length(Varint, Option<Field>),
    /// In bytes that do not matter, up to a position.
    Skip(u64),
}

#[derive(Clone, Copy, Debug, Default)]
struct Varint {
    value: u64,
    bytes: u32,
}

impl Varint {
    /// Takes the next byte. `Some` once the number is complete.
    fn push(&mut self, byte: u8) -> Result<Option<u64>, Malformed> {
        const MOST_BYTES: u32 = 10;
        if self.bytes >= MOST_BYTES {
            return Err(Malformed("a number has more than 10 bytes"));
        }
        self.value |= u64::from(byte & 0x7f)
            .checked_shl(7 * self.bytes)
            .unwrap_or(0);
        self.bytes += 1;
        Ok((byte & 0x80 == 0).then_some(self.value))
    }
}

impl Scanner {
    /// A scanner of a message of `bytes` bytes.
    pub(crate) fn new(message: MessageId, bytes: u64) -> Self {
        Self {
            at: 0,
            open: vec![(message, bytes)],
            state: State::Key(Varint::default()),
            elements: 0,
        }
    }

    /// Messages, strings and byte strings seen so far, the outermost message not counted.
    pub(crate) fn elements(&self) -> u64 {
        self.elements
    }

    /// Takes the next bytes of the message.
    ///
    /// # Errors
    /// [`Malformed`]: decoding would fail as well.
    pub(crate) fn push(&mut self, schema: &Schema, mut bytes: &[u8]) -> Result<(), Malformed> {
        while !bytes.is_empty() {
            let used = match self.state {
                State::Skip(end) => usize::try_from(end - self.at)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len()),
                _ => 1,
            };
            self.at += used as u64;
            self.step(schema, bytes[0])?;
            bytes = &bytes[used..];
            self.close_ended()?;
        }
        Ok(())
    }

    /// Moves on after a byte, or after a run of bytes that do not matter. `self.at` is behind it already.
    fn step(&mut self, schema: &Schema, byte: u8) -> Result<(), Malformed> {
        match &mut self.state {
            State::Skip(end) => {
                if self.at == *end {
                    self.state = State::Key(Varint::default());
                }
            }
            State::Number(varint) => {
                if varint.push(byte)?.is_some() {
                    self.state = State::Key(Varint::default());
                }
            }
            State::Key(varint) => {
                if let Some(key) = varint.push(byte)? {
                    self.state = self.after_key(schema, key)?;
                }
            }
            State::Length(varint, field) => {
                let field = *field;
                if let Some(length) = varint.push(byte)? {
                    self.begin(field, length)?;
                }
            }
        }
        Ok(())
    }

    fn after_key(&self, schema: &Schema, key: u64) -> Result<State, Malformed> {
        let number =
            u32::try_from(key >> 3).map_err(|_| Malformed("a field number is too large"))?;
        match key & 7 {
            0 => Ok(State::Number(Varint::default())),
            1 => Ok(State::Skip(self.at + 8)),
            5 => Ok(State::Skip(self.at + 4)),
            2 => {
                let (message, _) = *self.open.last().expect("a key stands inside a message");
                let field = schema.field(message, number);
                Ok(State::Length(Varint::default(), field))
            }
            _ => Err(Malformed("a field has an unknown wire type")),
        }
    }

    fn begin(&mut self, field: Option<Field>, length: u64) -> Result<(), Malformed> {
        let (_, limit) = *self.open.last().expect("a length stands inside a message");
        let end = self
            .at
            .checked_add(length)
            .filter(|end| *end <= limit)
            .ok_or(Malformed("a field is longer than what it stands in"))?;
        self.elements += u64::from(field.is_some());
        self.state = match field {
            Some(Field::Message(message)) => {
                self.open.push((message, end));
                State::Key(Varint::default())
            }
            _ if length > 0 => State::Skip(end),
            _ => State::Key(Varint::default()),
        };
        Ok(())
    }

    /// Closes the messages that end here.
    fn close_ended(&mut self) -> Result<(), Malformed> {
        while let Some((_, end)) = self.open.last() {
            if self.at < *end {
                if let State::Skip(skip_end) = self.state
                    && skip_end > *end
                {
                    return Err(Malformed("a field is cut short"));
                }
                return Ok(());
            }
            let at_boundary = matches!(self.state, State::Key(varint) if varint.bytes == 0);
            if !at_boundary {
                return Err(Malformed("a field is cut short"));
            }
            self.open.pop();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use highwater_proto::v1;
    use proptest::prelude::*;

    use super::*;

    fn schema() -> Schema {
        Schema::parse(highwater_proto::FILE_DESCRIPTOR_SET).unwrap()
    }

    fn count(path: &str, bytes: &[u8], piece: usize) -> Result<u64, Malformed> {
        let schema = schema();
        let method = schema.method(path).unwrap();
        let mut scanner = Scanner::new(method.request, bytes.len() as u64);
        for piece in bytes.chunks(piece) {
            scanner.push(&schema, piece)?;
        }
        Ok(scanner.elements())
    }

    fn produce() -> v1::ProduceRequest {
        let record = v1::Record {
            key: Some("k".into()),
            value: Some(vec![7; 300].into()),
            headers: vec![v1::Header {
                key: "h".to_owned(),
                value: None,
            }],
            timestamp_ms: Some(-5),
            offset: 0,
        };
        v1::ProduceRequest {
            acks: 1,
            timeout_ms: 1000,
            items: vec![v1::ProduceItem {
                partition: Some(v1::TopicPartition {
                    topic: "t".to_owned(),
                    topic_id: bytes::Bytes::new(),
                    partition: 3,
                }),
                payload: Some(v1::produce_item::Payload::Records(v1::Records {
                    records: vec![record.clone(), record],
                })),
            }],
        }
    }

    #[test]
    fn elements_are_counted_whatever_the_pieces() {
        let bytes = produce().encode_to_vec();
        // item, partition, topic, records, and twice: record, key, value, header, name
        for piece in [1, 2, 3, 7, 64, bytes.len()] {
            assert_eq!(
                count("/highwater.v1.ProduceService/Produce", &bytes, piece),
                Ok(14)
            );
        }
    }

    #[test]
    fn map_entries_and_empty_messages_count() {
        let request = v1::CreateTopicRequest {
            configs: [("a".to_owned(), "b".to_owned())].into(),
            ..Default::default()
        };
        let path = "/highwater.v1.AdminService/CreateTopic";
        assert_eq!(count(path, &request.encode_to_vec(), 5), Ok(3));
        let many = [0x0a, 0x00].repeat(1000);
        assert_eq!(
            count("/highwater.v1.FetchService/Fetch", &many, 64),
            Ok(1000)
        );
    }

    #[test]
    fn every_service_of_the_api_is_known() {
        let schema = schema();
        let stream = schema.method("/highwater.v1.ProduceService/ProduceStream");
        assert!(stream.unwrap().is_stream);
        let unary = schema.method("/highwater.v1.ClusterService/GetMetadata");
        assert!(!unary.unwrap().is_stream);
        assert!(
            schema
                .method("/highwater.v1.FetchService/Nothing")
                .is_none()
        );
    }

    #[test]
    fn lengths_beyond_their_message_are_malformed() {
        let path = "/highwater.v1.FetchService/Fetch";
        assert!(count(path, &[0x0a, 0x05, 0x00], 1).is_err());
        assert!(count(path, &[0x0a], 1).is_err());
        assert!(count(path, &[0x0b], 1).is_err());
        assert!(count(path, &[0xff; 11], 1).is_err());
        // a partition of 2 bytes with a topic of 4
        assert!(count(path, &[0x0a, 0x02, 0x0a, 0x04, 0, 0, 0, 0], 1).is_err());
    }

    proptest! {
        #[test]
        fn what_decodes_is_not_refused(bytes in prop::collection::vec(any::<u8>(), 0..64), piece in 1_usize..9) {
            let decodes = v1::FetchRequest::decode(&bytes[..]).is_ok();
            let scans = count("/highwater.v1.FetchService/Fetch", &bytes, piece);
            // groups are decoded (and ignored) by prost, and refused here
            let has_group = matches!(scans, Err(Malformed("a field has an unknown wire type")));
            prop_assert!(!decodes || scans.is_ok() || has_group, "{scans:?}");
        }
    }
}
