//! Proxies in front of the gateway, and the base path that it is served under.

use core::fmt;
use core::str::FromStr;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::error::Broken;
use super::table::table;

table! {
    /// Proxies in front of the gateway. Only trusted proxies are believed about their clients.
    pub struct Proxies {
        /// Networks of the trusted proxies, such as `["127.0.0.1", "10.0.0.0/8", "fd00::/8"]`.
        pub trusted: Vec<Network> = Vec::new(),
        /// Where a trusted proxy names its client: `x-forwarded-for` for that header with X-Forwarded-Proto and
        /// X-Forwarded-Host, `forwarded` for the header of RFC 7239, `none` for nowhere.
        pub header: ProxyHeader = ProxyHeader::XForwardedFor,
        /// Whether each connection of a trusted proxy begins with a PROXY protocol header, version 1 or 2. A connection
        /// without one is closed.
        pub proxy_protocol: bool = false,
    }
}

/// Where a trusted proxy names its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// In `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    XForwardedFor,
    /// In `Forwarded` (RFC 7239).
    Forwarded,
    /// In no header.
    None,
}

impl Proxies {
    /// Whether this address is trusted to name its client.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    pub(super) fn validate(&self) -> Result<(), Broken> {
        if self.proxy_protocol && self.trusted.is_empty() {
            return Err(Broken::new("proxies.proxy_protocol", "needs `trusted`: the proxies' networks"));
        }
        Ok(())
    }
}

/// An address range: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    length: u8,
}

lockstep::internal::sentence! {
    /// Why a text is not valid as a setting: a sentence that quotes it.
    InvalidSetting
}

impl Network {
    /// Whether the address is in it. An IPv4-mapped IPv6 address counts as its IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.length)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let wrong =
            || InvalidSetting::new(format!("{text:?} is not a network: write 10.0.0.0/8, fd00::/8 or one address"));
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(length) => length.parse().ok().filter(|length| *length <= most).ok_or_else(wrong)?,
            None => most,
        };
        // An IPv4-mapped IPv6 network is compared as IPv4.
        match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(short)) if length >= 96 => {
                Ok(Self { address: short.into(), length: length - 96 })
            }
            _ => Ok(Self { address, length }),
        }
    }
}

impl TryFrom<String> for Network {
    type Error = InvalidSetting;

    fn try_from(text: String) -> Result<Self, InvalidSetting> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// The address that counts for limits: the first 64 bits of an IPv6 address, because one customer has all the rest.
#[must_use]
pub fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// The path that the gateway is served under: `/`, or `/chat/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BasePath(String);

impl BasePath {
    /// The path, including the trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path without the trailing slash: empty for the root.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.0.trim_end_matches('/')
    }
}

impl Default for BasePath {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

impl TryFrom<String> for BasePath {
    type Error = InvalidSetting;

    fn try_from(path: String) -> Result<Self, InvalidSetting> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
        let parts = || path.split('/').skip(1);
        let empty = parts().filter(|part| part.is_empty()).count();
        if !path.starts_with('/')
            || !path.ends_with('/')
            || !path.chars().all(is_plain)
            || empty != 1
            || parts().any(|part| part == "." || part == "..")
        {
            return Err(InvalidSetting::new(format!(
                "{path:?} is not a base path: write one like /chat/, with `/` at both ends, of A-Z a-z 0-9 - . _ ~"
            )));
        }
        Ok(Self(path))
    }
}

impl From<BasePath> for String {
    fn from(path: BasePath) -> Self {
        path.0
    }
}
