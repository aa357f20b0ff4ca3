//! Black-box tests of the logs: the contract of every log, and how a log on disk survives failures of the disk, the
//! process and the machine.

mod contract;
mod damage;
mod deleted;
mod deleted_kept;
mod earlier;
mod faults;
mod kept;
mod packed;
mod pages;
mod postgres;
mod random;
mod removed;
mod simulated;
mod stale;
