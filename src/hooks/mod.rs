//! Steps around a start and a stop, done by this daemon itself, whose failure fails the action.

pub mod storage;
