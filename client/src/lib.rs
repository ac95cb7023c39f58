//! The client of Highwater: producer, consumer and admin.
