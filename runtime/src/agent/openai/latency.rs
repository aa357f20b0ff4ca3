//! How long a model's server takes until it begins to answer.

use std::time::Instant;

use metrics::histogram;

/// Awaits an answer's beginning, and measures how long that took.
pub(super) async fn timed<T, E>(asked: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let began = Instant::now();
    let answer = asked.await;
    let outcome = if answer.is_ok() { "answered" } else { "failed" };
    histogram!("lockstep_model_seconds", "outcome" => outcome).record(began.elapsed());
    answer
}
