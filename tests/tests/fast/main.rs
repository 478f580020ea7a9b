//! What a change has to pass first: real processes, signals and sockets, and nothing that has to be
//! installed or takes long.

mod accept;
mod addresses;
mod around;
mod attribute;
mod body;
mod embedded;
mod ending;
mod events;
mod figures;
mod hooks;
mod http2;
mod lame_duck;
mod layers;
mod life;
mod limits;
mod listen;
mod messages;
mod models;
mod options;
mod order;
mod papers;
mod probes;
mod runtimes;
mod seen;
mod server;
mod signals;
mod sockets;
mod spread;
mod upgrade;
mod work;
