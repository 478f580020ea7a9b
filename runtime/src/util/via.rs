//! Markers for [`Main`](crate::Main) and similar traits, which tell the blanket implementations of
//! one trait apart. The compiler infers them; nobody writes them.

/// It is a [`Serve`](crate::Serve).
#[derive(Debug)]
pub struct Serve;
/// It is a future whose outcome is `Outcome`.
#[derive(Debug)]
pub struct Future<Outcome>(Outcome);
/// It is a `Result` of something that is served by `Via`, with an error that converts by `Error`.
#[derive(Debug)]
pub struct Result<Via, Error>(Via, Error);
/// It never returns.
#[derive(Debug)]
pub struct Never;
/// The output is `()`.
#[derive(Debug)]
pub struct Unit;
/// The error converts into `Box<dyn Error + Send + Sync>`.
#[derive(Debug)]
pub struct Boxable;
/// The error is a `Box<dyn Error>`, which cannot be sent to another thread.
#[derive(Debug)]
pub struct Boxed;
/// A hyper service.
#[derive(Debug)]
pub struct Hyper;
/// A tower service.
#[derive(Debug)]
pub struct Tower;
/// It makes a service for each connection, which is served by `Via`.
#[derive(Debug)]
pub struct Make<Via>(Via);
