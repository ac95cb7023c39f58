//! How messages become bytes on a stream.
//!
//! The same bytes as with the codec that comes with tonic, made with fewer copies: that one begins with a small buffer
//! for each message and lets it grow, which copies a message full of batches about once more. Here the room for all of
//! it is taken first.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

/// See the module. Messages of type `E` are sent, of type `D` received.
#[derive(Debug, Clone)]
pub struct SizedCodec<E, D> {
    messages: PhantomData<(E, D)>,
}

impl<E, D> Default for SizedCodec<E, D> {
    fn default() -> Self {
        Self {
            messages: PhantomData,
        }
    }
}

impl<E, D> Codec for SizedCodec<E, D>
where
    E: Message + Send + 'static,
    D: Message + Default + Send + 'static,
{
    type Encode = E;
    type Decode = D;
    type Encoder = SizedEncoder<E>;
    type Decoder = ProstDecoder<D>;

    fn encoder(&mut self) -> Self::Encoder {
        SizedEncoder {
            message: PhantomData,
        }
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

/// Encodes messages of one type.
#[derive(Debug, Clone)]
pub struct SizedEncoder<E> {
    message: PhantomData<E>,
}

impl<E: Message> Encoder for SizedEncoder<E> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, item: E, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.encoded_len());
        item.encode(buffer)
            .map_err(|error| Status::internal(error.to_string()))
    }
}
