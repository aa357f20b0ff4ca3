//! The time until a model's server begins to answer.

use std::time::Instant;

use metrics::histogram;

/// Awaits the beginning of an answer, and records how long it took.
pub(super) async fn timed<T, E>(asked: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let began = Instant::now();
    let answer = asked.await;
    let outcome = if answer.is_ok() { "answered" } else { "failed" };
    histogram!("lockstep_model_seconds", "outcome" => outcome).record(began.elapsed());
    answer
}
