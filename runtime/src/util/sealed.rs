//! How traits that users are not meant to implement are closed.

/// An argument of the hidden methods of traits that only this crate implements. It is public,
/// because public traits mention it, and cannot be named from outside: so nobody else can write the
/// method.
///
/// A sealed supertrait would do as well, but the compiler would then name that trait in its
/// messages instead of the one that explains itself.
#[derive(Debug)]
pub struct Sealed;
