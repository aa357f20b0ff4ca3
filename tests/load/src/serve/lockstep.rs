//! The session layer as a service embeds it, with an agent that carries out [`Plan`]s.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use futures_util::future::join_all;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lockstep::agent::{Agent, EmitError, Message, Run};
use lockstep::log::disk::{DiskLog, Durability};
use lockstep::verify::clock::Clock;
use lockstep::verify::jwt::{JwtConfig, JwtVerifier};
use lockstep::verify::keys::{Keys, Secret};
use lockstep::verify::revoked::Revocations;
use lockstep::{BoxFuture, Manager};
use lockstep_model::Bounds;
use serde_json::json;

use crate::plan::{self, Kind, Plan, SECRET};

/// Serves until the process ends, with the log in memory or in this directory.
pub(crate) async fn serve(port: u16, directory: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
    let listener = super::listen(port)?;
    let config = JwtConfig::new(Keys::Secret(Secret::new(SECRET.as_bytes())));
    let revocations = Arc::new(Revocations::in_memory(config.retention(), Clock::system()));
    let verifier = JwtVerifier::new(config, revocations, Clock::system())?;
    let owner = Arc::new(OnceLock::new());
    // Closed loops send more messages than people do.
    let bounds = Bounds { requests: 0, ..Bounds::DEFAULT };
    let builder = Manager::builder().verifier(verifier).agent(Emitter { owner: Arc::clone(&owner) }).bounds(bounds);
    let builder = match directory {
        Some(directory) => builder.log(DiskLog::open(directory, Durability::Always)?),
        None => builder,
    };
    let manager = builder.build()?;
    let _ = owner.set(manager.clone());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let manager = manager.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = manager.upgrade(request);
                async move { Ok::<_, std::convert::Infallible>(response) }
            });
            // A failed connection is for its client to notice.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        });
    }
}

struct Emitter {
    owner: Arc<OnceLock<Manager>>,
}

impl Agent for Emitter {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        let owner = Arc::clone(&self.owner);
        Box::pin(async move {
            let Ok(plan) = serde_json::from_str::<Plan>(message.payload.get()) else { return };
            if let (Kind::Broadcast, Some(manager)) = (plan.kind, owner.get()) {
                let _ = manager.broadcast(&json!({ "text": plan.text(plan::now()) })).await;
            } else if emit(&run, plan).await.is_err() {
                return;
            }
            let _ = run.complete(json!({ "text": "" })).await;
        })
    }
}

async fn emit(run: &Run, plan: Plan) -> Result<(), EmitError> {
    let (start, began) = (tokio::time::Instant::now(), plan::now());
    for (after, count) in plan.batches() {
        if plan.every > 0 {
            plan::until(start, after).await;
        }
        let due = if plan.every > 0 { began + after } else { plan::now() };
        let text = plan.text(due);
        let one = async || match plan.kind {
            Kind::Token => run.text(&text).await,
            Kind::Event | Kind::Broadcast => run.thinking(&text).await,
        };
        if count == 1 {
            one().await?;
        } else {
            join_all((0..count).map(|_| one())).await.into_iter().collect::<Result<(), _>>()?;
        }
    }
    Ok(())
}
