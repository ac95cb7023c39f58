//! The Highwater broker as a library.
