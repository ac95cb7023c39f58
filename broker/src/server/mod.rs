//! The way in: a broker's listeners, and what every call passes before its handler.

mod broker;
mod builder;
mod call_span;
mod connector;
mod doors;
mod gate;
mod handshake;
pub(crate) mod listener;
pub(crate) mod meter;
mod metered_body;
mod paid_body;
pub(crate) mod schema;
mod stall;

pub use broker::{Addresses, Broker};
pub use builder::BrokerBuilder;
#[cfg(feature = "otlp")]
pub(crate) use call_span::CALL_TARGET;
pub use connector::Connector;
pub(crate) use gate::{CallDeadline, explain};
pub(crate) use listener::{Connections, Listener, ListenerName, Origin};
pub(crate) use metered_body::{MessageCharges, out_of_memory};
pub(crate) use paid_body::AnswerCharges;
