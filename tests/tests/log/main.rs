//! The logs from outside: what every log must do, and what one on the disk does when the disk, the process or the machine
//! fails it.

mod contract;
mod damage;
mod deleted;
mod deleted_kept;
mod earlier;
mod faults;
mod kept;
mod packed;
mod pages;
mod random;
mod removed;
mod simulated;
mod stale;
