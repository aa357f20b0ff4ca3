//! `prove explore`

use std::io::Write;
use std::net::{SocketAddr, TcpListener};

use crate::cli::{Failure, emit, known};
use crate::engine::findings::Conclusion;
use crate::engine::profile::Profile;
use crate::registry;

/// Walk through the states of a model in a browser (stateright's Explorer)
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  prove explore session
  prove explore golden --listen 127.0.0.1:8080

The Explorer shows states of the model and has no access control, so it
listens on loopback only. Ctrl-C ends it.")]
pub(super) struct Args {
    /// The model (see `prove list`)
    model: String,
    /// Use the bounds of this profile
    #[arg(long, value_enum, default_value = "quick")]
    profile: Profile,
    /// The address to listen on: a loopback address and a port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Conclusion, Failure> {
    let models = registry::models(args.profile);
    let names: Vec<&str> = models.iter().map(|model| model.name()).collect();
    let model = &models[known::position("model", &args.model, &names)?];
    if !args.listen.ip().is_loopback() {
        let message = format!("{} is not a loopback address: use 127.0.0.1 or [::1]", args.listen.ip());
        return Err(Failure::Usage(message));
    }
    // The Explorer panics if the address is in use. Binding first turns that into an error message.
    TcpListener::bind(args.listen).map_err(|error| Failure::World(format!("{}: {error}", args.listen)))?;
    emit(out, &format!("{}: http://{}/ (Ctrl-C ends it)\n", model.name(), args.listen))?;
    model.serve(args.listen);
    Ok(Conclusion::Holds)
}
