//! Harness of the whole-system tests of Highwater: real processes, faults, checkers.
