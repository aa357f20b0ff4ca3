#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
use lockstep_proofs::{Proof, registry::Profile, session};
use stateright::{Checker, Model};
fn main() {
    let profile = match std::env::args().nth(1).as_deref() {
        Some("ci") => Profile::Ci,
        Some("deep") => Profile::Deep,
        _ => Profile::Quick,
    };
    let mut model = session::model(profile);
    for a in std::env::args().skip(2) {
        let (k, v) = a.split_once('=').unwrap();
        let n: u8 = v.parse().unwrap();
        match k {
            "cuts" => model.setup.cuts = n,
            "crashes" => model.setup.crashes = n,
            "fail" => model.setup.log_failures = n,
            "tools" => model.setup.tools = n,
            "pending" => model.setup.bounds.pending = n.into(),
            "pull" => model.setup.pull = n.into(),
            "ret" => model.setup.bounds.retained = n.into(),
            "m1" => model.setup.clients[1].messages = n,
            "m0" => model.setup.clients[0].messages = n,
            "s0" => model.setup.clients[0].sockets = n,
            "c" => model.setup.clients.truncate(n.into()),
            _ => panic!(),
        }
    }
    println!("{:?}", model.bounds());
    let t = std::time::Instant::now();
    let checker = model.clone().checker().threads(2).finish_when(stateright::HasDiscoveries::AnyFailures).spawn_bfs();
    let mut c = checker;
    let handles = c.handles();
    while !c.is_done() {
        std::thread::sleep(std::time::Duration::from_secs(1));
        let s = t.elapsed().as_secs_f64();
        if (s as u64) % 10 == 0 {
            eprintln!(
                "{:.0}s gen {} uniq {} depth {} {:.0}/s",
                s,
                c.state_count(),
                c.unique_state_count(),
                c.max_depth(),
                c.state_count() as f64 / s
            );
        }
        if s > 900.0 {
            break;
        }
    }
    if c.is_done() {
        for h in handles {
            h.join().unwrap();
        }
    }
    let s = t.elapsed().as_secs_f64();
    println!(
        "{:.1}s gen {} uniq {} depth {} {:.0}/s done {}",
        s,
        c.state_count(),
        c.unique_state_count(),
        c.max_depth(),
        c.state_count() as f64 / s,
        c.is_done()
    );
    println!(
        "{}",
        std::fs::read_to_string("/proc/self/status")
            .unwrap()
            .lines()
            .filter(|l| l.starts_with("VmHWM"))
            .collect::<String>()
    );
    for (name, path) in c.discoveries() {
        println!("== {name}");
        if c.model().property(name).expectation == stateright::Expectation::Always {
            for (state, action) in path.into_vec() {
                println!("{action:?}");
                if action.is_none() {
                    println!("{state:#?}");
                }
            }
        }
    }
}
