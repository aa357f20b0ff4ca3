//! Names of codecs, and the starting position in the upgrade request.

use lockstep::wire::resume_from_query;
use lockstep_model::frame::ReadFrom;
use lockstep_model::{Position, Resume};

use super::*;

#[test]
fn a_codec_is_known_by_its_subprotocol_and_a_token_is_none() {
    assert_eq!(Codec::of_subprotocol("lockstep.v1"), Some(Codec::V1));
    assert_eq!(Codec::of_subprotocol("jwt-auth"), Some(Codec::Legacy));
    for codec in CODECS {
        assert_eq!(Codec::of_subprotocol(codec.subprotocol()), Some(codec));
    }
    for other in ["", "jwt", "jwt.abc", "jwt.lockstep.v1", "LOCKSTEP.V1", "lockstep.v2", "lockstep.v1 "] {
        assert_eq!(Codec::of_subprotocol(other), None, "{other}");
    }
}

#[test]
fn a_query_says_where_reading_begins() {
    let at = |epoch, offset| ReadFrom::After(Position { epoch: Epoch(epoch), offset: Offset(offset) });
    let replaces = Some(ConnectionId(0xAB));
    for (query, from, replaces) in [
        ("", ReadFrom::Unread, None),
        ("ticket=a%20b&x&=&&", ReadFrom::Unread, None),
        ("from=unread", ReadFrom::Unread, None),
        ("from=latest", ReadFrom::Latest, None),
        ("from=earliest&ticket=t", ReadFrom::Earliest, None),
        ("epoch=7&offset=9", at(7, 9), None),
        ("offset=0&ticket=t&epoch=9007199254740991", at(9_007_199_254_740_991, 0), None),
        ("replaces=00000000000000ab", ReadFrom::Unread, replaces),
        ("epoch=7&offset=9&replaces=00000000000000ab", at(7, 9), replaces),
    ] {
        assert_eq!(resume_from_query(query), Ok(Resume { from, replaces }), "{query}");
    }
}

#[test]
fn a_query_that_says_it_wrongly_is_told_which_parameter() {
    for (query, named) in [
        ("epoch=7", "`epoch` and `offset`"),
        ("offset=7", "`epoch` and `offset`"),
        ("epoch=&offset=7", "`epoch`"),
        ("epoch=7&offset", "`offset`"),
        ("epoch=+7&offset=1", "`epoch`"),
        ("epoch=7&offset=-1", "`offset`"),
        ("epoch=7&offset=1.0", "`offset`"),
        ("epoch=7&offset=%31", "`offset`"),
        ("epoch=9007199254740992&offset=1", "`epoch`"),
        ("epoch=7&offset=99999999999999999999999", "`offset`"),
        ("from=", "`from`"),
        ("from=now", "`from`"),
        ("from=latest&epoch=7&offset=9", "`from`"),
        ("from=latest&offset=9", "`from`"),
        ("from=latest&from=latest", "`from`"),
        ("epoch=7&epoch=7&offset=9", "`epoch`"),
        ("replaces=ab", "`replaces`"),
        ("replaces=00000000000000AB", "`replaces`"),
    ] {
        let error = resume_from_query(query).expect_err(query);
        assert!(error.reason().contains(named), "{query}: {error}");
    }
}

/// Queries that are valid, nearly valid, or neither.
const QUERY: &str = "([a-z]{0,8}|epoch|offset|from|replaces|=|&|[0-9]{1,20}|%[0-9a-f]{2}|\\PC){0,20}";

proptest! {
    #[test]
    fn every_query_is_decoded_or_refused(query in QUERY) {
        let _ = resume_from_query(&query);
    }

    #[test]
    fn a_place_is_read_back(epoch in 0u64..1 << 53, offset in 0u64..1 << 53, replaces in prop::option::of(any::<u64>())) {
        let named = replaces.map(|id| format!("&replaces={id:016x}")).unwrap_or_default();
        let from = ReadFrom::After(Position { epoch: Epoch(epoch), offset: Offset(offset) });
        let expected = Resume { from, replaces: replaces.map(ConnectionId) };
        prop_assert_eq!(resume_from_query(&format!("epoch={epoch}&offset={offset}{named}")), Ok(expected));
    }
}
