//! Several gateways that share a log.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lockstep_model::member;

use super::error::{Broken, at_least};
use super::table::table;
use super::units;
use super::{Log, LogKind};

table! {
    /// For `log.kind = "postgres"`: how this gateway and the others that share its log know and reach each other.
    pub struct Cluster {
        /// The address on which the other gateways reach this one. What passes there is not encrypted: use a private
        /// network.
        pub listen: Option<SocketAddr> = None,
        /// The address as the others see it, `host:port`, if it is not `listen`.
        pub address: Option<String> = None,
        /// The file with the key that all gateways of the cluster share: at least 32 bytes, such as those of
        /// `head -c 48 /dev/urandom | base64`.
        pub key_file: Option<PathBuf> = None,
        /// Seconds after which the users of a gateway that is silent are served by others. All gateways of a cluster
        /// must have the same.
        pub lease_seconds: u64 ["units::seconds"] = 10,
    }
}

impl Cluster {
    /// The times of a lease. A gateway ends its own a tenth earlier, for clocks whose rates differ.
    #[must_use]
    pub fn limits(&self) -> member::LeaseTimes {
        let lease = Duration::from_secs(self.lease_seconds);
        member::LeaseTimes { lease, margin: lease / 10 }
    }

    pub(super) fn validate(&self, log: &Log) -> Result<(), Broken> {
        at_least("cluster.lease_seconds", self.lease_seconds, 1)?;
        if log.kind != LogKind::Postgres {
            return match self.listen {
                Some(_) => {
                    Err(Broken::new("cluster.listen", "needs `log.kind = \"postgres\"`: no other log is shared"))
                }
                None => Ok(()),
            };
        }
        let Some(listen) = self.listen else {
            return Err(Broken::new(
                "cluster.listen",
                "is needed with `log.kind = \"postgres\"`: the address for the other gateways",
            ));
        };
        if listen.ip().is_unspecified() && self.address.is_none() {
            return Err(Broken::new(
                "cluster.address",
                "is needed, because the others cannot connect to `cluster.listen` as it is",
            ));
        }
        if listen.port() == 0 {
            return Err(Broken::new("cluster.listen", "needs a port"));
        }
        if self.key_file.is_none() {
            return Err(Broken::new(
                "cluster.key_file",
                "is needed with `log.kind = \"postgres\"`: make one with `head -c 48 /dev/urandom | base64 > FILE`, for all gateways",
            ));
        }
        Ok(())
    }
}
