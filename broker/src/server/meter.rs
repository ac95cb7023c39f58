//! Finds the messages in the body of a call while it arrives, and counts what is in each before it is decoded.

use std::sync::Arc;
use std::time::Duration;

use highwater_proto::{ApiError, Reason};

use super::schema::{MessageId, Scanner, Schema};

/// Bytes of memory that decoding builds for each message, string or byte string inside a message, rounded up.
pub(super) const ELEMENT_BYTES: u64 = 256;

/// What the messages of one method may hold.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    /// Shapes of messages.
    pub(crate) schema: Arc<Schema>,
    /// The message; `None`: only its size is checked.
    pub(crate) message: Option<MessageId>,
    /// Name of the limit on the size of a message.
    pub(crate) limit_name: &'static str,
    /// Bytes of one message.
    pub(crate) max_bytes: u32,
    /// Name of the limit on elements.
    pub(crate) elements_limit_name: &'static str,
    /// Elements of one message.
    pub(crate) max_elements: u32,
    /// How long to wait for memory; `None`: a message that does not fit at once is refused.
    pub(crate) memory_wait: Option<Duration>,
}

/// Finds the messages in a byte stream framed as gRPC does it: one byte flag, four bytes length, message.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(super) measure: Measure,
    state: Framing,
}

#[derive(Debug)]
enum Framing {
    Prefix {
        bytes: [u8; 5],
        filled: usize,
    },
    Message {
        left: u64,
        scanner: Option<Scanner>,
        elements: u64,
    },
}

/// Memory that a piece of the body needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A message of so many bytes begins.
    Begin(u64),
    /// The message that goes on holds more elements.
    More(u64),
}

impl Meter {
    pub(crate) fn new(measure: Measure) -> Self {
        Self {
            measure,
            state: Framing::prefix(),
        }
    }

    /// Takes the next bytes and says what memory they need.
    ///
    /// # Errors
    /// What is wrong with the message that they belong to.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Need>, ApiError> {
        let mut needs = Vec::new();
        while !bytes.is_empty() {
            match &mut self.state {
                Framing::Prefix {
                    bytes: prefix,
                    filled,
                } => {
                    let used = bytes.len().min(prefix.len() - *filled);
                    prefix[*filled..*filled + used].copy_from_slice(&bytes[..used]);
                    *filled += used;
                    bytes = &bytes[used..];
                    if *filled == prefix.len() {
                        let prefix = *prefix;
                        let length = self.begin(prefix)?;
                        needs.push(Need::Begin(u64::from(length)));
                    }
                }
                Framing::Message {
                    left,
                    scanner,
                    elements,
                } => {
                    let used = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len());
                    if let Some(scanner) = scanner {
                        scanner
                            .push(&self.measure.schema, &bytes[..used])
                            .map_err(|error| {
                                ApiError::new(Reason::InvalidRequest, error.to_string())
                            })?;
                        let found = scanner.elements() - *elements;
                        *elements += found;
                        if *elements > u64::from(self.measure.max_elements) {
                            return Err(too_many_elements(&self.measure));
                        }
                        if found > 0 {
                            needs.push(Need::More(found * ELEMENT_BYTES));
                        }
                    }
                    *left -= used as u64;
                    bytes = &bytes[used..];
                    if *left == 0 {
                        self.state = Framing::prefix();
                    }
                }
            }
        }
        Ok(needs)
    }

    /// Begins the message behind a prefix and returns its length.
    fn begin(&mut self, prefix: [u8; 5]) -> Result<u32, ApiError> {
        let [flag, length @ ..] = prefix;
        if flag != 0 {
            return Err(ApiError::new(
                Reason::InvalidRequest,
                "the message is marked as compressed: send messages uncompressed, batches are compressed inside",
            ));
        }
        let length = u32::from_be_bytes(length);
        if length > self.measure.max_bytes {
            return Err(too_large(&self.measure, length));
        }
        self.state = if length == 0 {
            Framing::prefix()
        } else {
            Framing::Message {
                left: u64::from(length),
                scanner: self
                    .measure
                    .message
                    .map(|message| Scanner::new(message, u64::from(length))),
                elements: 0,
            }
        };
        Ok(length)
    }
}

impl Framing {
    fn prefix() -> Self {
        Self::Prefix {
            bytes: [0; 5],
            filled: 0,
        }
    }
}

fn too_large(measure: &Measure, length: u32) -> ApiError {
    let (limit, most) = (measure.limit_name, measure.max_bytes);
    ApiError::new(
        Reason::LimitExceeded,
        format!(
            "the message has {length} bytes, {limit} allows {most}: send less at once or raise the limit"
        ),
    )
    .with("limit", limit)
    .with("most", most)
}

fn too_many_elements(measure: &Measure) -> ApiError {
    let (limit, most) = (measure.elements_limit_name, measure.max_elements);
    ApiError::new(
        Reason::LimitExceeded,
        format!(
            "the message holds more than {most} messages and strings ({limit}): send less at once"
        ),
    )
    .with("limit", limit)
    .with("most", most)
}
