//! `POST /markdown`: every element of GitHub-flavoured Markdown and no other, for authenticated users, within bounds.

use std::net::SocketAddr;
use std::sync::Arc;

use jsonwebtoken::Algorithm;
use lockstep_gateway::markdown::{MAX_TEXT, RATE, Renderer, markdown_routes};
use serde_json::{Value, json};

use super::http::{Answer, send, serve};
use super::support::*;

pub(super) struct Route {
    address: SocketAddr,
    token: String,
    hands: Hands,
}

impl Route {
    pub(super) async fn open() -> Self {
        let (verifier, hands) = strict();
        let address = serve(markdown_routes(Arc::new(Renderer::new(Arc::new(verifier), hands.clock()))), None).await;
        Self { address, token: format!("Bearer {}", signed(Algorithm::HS256, &claims())), hands }
    }

    pub(super) async fn ask(&self, text: impl AsRef<[u8]>) -> Answer {
        self.hands.forward(RATE.refill);
        send(self.address, "/markdown", &[("Authorization", &self.token)], text.as_ref()).await
    }

    /// The children of a text's tree.
    pub(super) async fn tree(&self, text: &str) -> Vec<Value> {
        let answer = self.ask(text).await;
        assert_eq!(answer.status, 200, "{text:?}: {}", answer.body);
        let mut tree = answer.body["tree"].as_array().expect("a tree").clone();
        assert_eq!(tree.remove(0), json!("div"));
        tree
    }
}

/// The elements that a tree may have, with their attributes.
const ELEMENTS: &[(&str, &[&str])] = &[
    ("p", &[]),
    ("blockquote", &[]),
    ("ul", &[]),
    ("ol", &["start"]),
    ("li", &[]),
    ("em", &[]),
    ("strong", &[]),
    ("del", &[]),
    ("hr", &[]),
    ("br", &[]),
    ("code", &[]),
    ("h3", &[]),
    ("h4", &[]),
    ("h5", &[]),
    ("h6", &[]),
    ("pre", &["language"]),
    ("table", &[]),
    ("thead", &[]),
    ("tbody", &[]),
    ("tr", &[]),
    ("th", &["align"]),
    ("td", &["align"]),
    ("a", &["href"]),
    ("task", &["done"]),
    ("noteref", &["number"]),
    ("note", &["number"]),
    ("alert", &["kind"]),
    ("math", &["display"]),
    ("semantics", &[]),
    ("annotation", &["encoding"]),
];

/// The elements of formulas, which share their attributes.
const MATH: &[&str] = &[
    "mfrac",
    "mi",
    "mmultiscripts",
    "mn",
    "mo",
    "mover",
    "mpadded",
    "mphantom",
    "mprescripts",
    "mroot",
    "mrow",
    "mspace",
    "msqrt",
    "msub",
    "msubsup",
    "msup",
    "mtable",
    "mtd",
    "mtext",
    "mtr",
    "munder",
    "munderover",
];
const MATH_ATTRIBUTES: &[&str] = &[
    "accent",
    "accentunder",
    "class",
    "depth",
    "displaystyle",
    "form",
    "height",
    "largeop",
    "linethickness",
    "lspace",
    "mathvariant",
    "maxsize",
    "minsize",
    "movablelimits",
    "rspace",
    "scriptlevel",
    "stretchy",
    "symmetric",
    "width",
];

/// Asserts that a tree has allowed elements only, that its links lead to allowed targets, and its depth.
pub(super) fn assert_allowed(tree: &Value, deepest: usize) {
    let Some(parts) = tree.as_array() else {
        return assert!(tree.is_string(), "{tree}");
    };
    assert!(deepest > 0, "too deep");
    let of_text = ELEMENTS.iter().find(|(name, _)| parts[0] == *name).map(|(_, allowed)| *allowed);
    let of_math = || MATH.iter().any(|name| parts[0] == *name).then_some(MATH_ATTRIBUTES);
    let allowed = of_text.or_else(of_math).unwrap_or_else(|| panic!("{tree}"));
    let mut children = &parts[1..];
    if let Some(attributes) = children.first().and_then(Value::as_object) {
        assert!(attributes.iter().all(|(name, value)| allowed.contains(&name.as_str()) && value.is_string()), "{tree}");
        if let Some(href) = attributes.get("href").and_then(Value::as_str) {
            let href = href.to_ascii_lowercase();
            assert!(["http://", "https://", "mailto:"].iter().any(|scheme| href.starts_with(scheme)), "{href}");
        }
        children = &children[1..];
    }
    children.iter().for_each(|child| assert_allowed(child, deepest - 1));
}

#[tokio::test]
async fn each_element_of_markdown_is_in_the_tree() {
    let route = Route::open().await;
    for (text, tree) in [
        ("a\nb", json!([["p", "a", "\n", "b"]])),
        ("a  \nb\\\nc", json!([["p", "a", ["br"], "b", ["br"], "c"]])),
        (
            "*a* _b_ **c** __d__ ***e***",
            json!([[
                "p",
                ["em", "a"],
                " ",
                ["em", "b"],
                " ",
                ["strong", "c"],
                " ",
                ["strong", "d"],
                " ",
                ["em", ["strong", "e"]]
            ]]),
        ),
        ("~~gone~~ snake_case_name", json!([["p", ["del", "gone"], " snake_case_name"]])),
        ("`a*b*` ``c`d``", json!([["p", ["code", "a*b*"], " ", ["code", "c`d"]]])),
        ("> a\n>> b", json!([["blockquote", ["p", "a"], ["blockquote", ["p", "b"]]]])),
        ("> [!WARNING]\n> a", json!([["alert", {"kind": "warning"}, ["p", "a"]]])),
        (
            "- a\n  - b\n    1. c",
            json!([["ul", ["li", "a", ["ul", ["li", "b", ["ol", {"start": "1"}, ["li", "c"]]]]]]]),
        ),
        ("3. a\n\n4. b", json!([["ol", {"start": "3"}, ["li", ["p", "a"]], ["li", ["p", "b"]]]])),
        (
            "- [x] a\n- [ ] b",
            json!([["ul", ["li", ["task", {"done": "true"}], "a"], ["li", ["task", {"done": "false"}], "b"]]]),
        ),
        ("a\n\n---\n\nb", json!([["p", "a"], ["hr"], ["p", "b"]])),
        ("```rust,ignore\na\n\n  b\n```", json!([["pre", {"language": "rust"}, "a\n\n  b"]])),
        ("```\n<b>\n", json!([["pre", "<b>"]])),
        ("    a", json!([["pre", "a"]])),
        (
            "| a | b | c |\n|:--|--:|---|\n| 1 | *2* |",
            json!([["table", ["thead", ["tr", ["th", {"align": "left"}, "a"], ["th", {"align": "right"}, "b"], ["th", "c"]]], ["tbody", ["tr", ["td", {"align": "left"}, "1"], ["td", {"align": "right"}, ["em", "2"]], ["td"]]]]]),
        ),
        ("[a](https://x.org/b_(c)_d)", json!([["p", ["a", {"href": "https://x.org/b_(c)_d"}, "a"]]])),
        ("[a][1]\n\n[1]: http://x.org \"t\"", json!([["p", ["a", {"href": "http://x.org"}, "a"]]])),
        (
            "![a *b*](https://x.org/c.png) ![](https://x.org)",
            json!([["p", ["a", {"href": "https://x.org/c.png"}, "a ", ["em", "b"]], " ", ["a", {"href": "https://x.org"}, "image"]]]),
        ),
        ("[![a](https://x.org/c.png)](https://x.org)", json!([["p", ["a", {"href": "https://x.org"}, "a"]]])),
        (
            "<https://x.org> <ann@x.org>",
            json!([["p", ["a", {"href": "https://x.org"}, "https://x.org"], " ", ["a", {"href": "mailto:ann@x.org"}, "ann@x.org"]]]),
        ),
        (
            "a[^n] b[^m]\n\n[^m]: c\n\n[^n]: d",
            json!([["p", "a", ["noteref", {"number": "1"}], " b", ["noteref", {"number": "2"}]], ["note", {"number": "2"}, ["p", "c"]], ["note", {"number": "1"}, ["p", "d"]]]),
        ),
        ("&amp; &copy; \\*a\\*", json!([["p", "& © *a*"]])),
        ("", json!([])),
    ] {
        assert_eq!(json!(route.tree(text).await), tree, "{text:?}");
    }
}

#[tokio::test]
async fn an_address_in_a_text_is_a_link_without_what_ends_the_sentence() {
    let route = Route::open().await;
    for (text, address) in [
        ("see https://x.org/a?b=c_d_e.", "https://x.org/a?b=c_d_e"),
        ("(http://x.org/a_(b))", "http://x.org/a_(b)"),
        ("\"https://x.org\", she said", "https://x.org"),
        ("**https://x.org/**", "https://x.org/"),
    ] {
        let tree = json!(route.tree(text).await).to_string();
        assert!(tree.contains(&format!("[\"a\",{{\"href\":{0:?}}},{0:?}]", address)), "{tree}");
    }
    for text in ["xhttps://x.org", "https://", "http:/x.org", "`https://x.org`", "    https://x.org"] {
        let tree = json!(route.tree(text).await).to_string();
        assert!(!tree.contains("href"), "{text}: {tree}");
    }
}

#[tokio::test]
async fn headings_are_below_those_of_the_page_and_no_level_is_left_out() {
    let route = Route::open().await;
    let levels = async |text: &str| -> Vec<String> {
        route.tree(text).await.iter().map(|heading| heading[0].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(levels("# a\n## b\n# c").await, ["h3", "h4", "h3"]);
    assert_eq!(levels("## a\n#### b\n### c\n## d").await, ["h3", "h4", "h4", "h3"]);
    assert_eq!(levels("# a\n## b\n### c\n#### d\n##### e\n###### f").await, ["h3", "h4", "h5", "h6", "h6", "h6"]);
}

#[tokio::test]
async fn markup_in_a_text_is_text() {
    let route = Route::open().await;
    for (text, tree) in [
        ("<script>alert(1)</script>", json!([["p", "<script>alert(1)</script>"]])),
        ("a <b onclick=x>c</b>", json!([["p", "a ", "<b onclick=x>", "c", "</b>"]])),
        ("a<br>b<BR/>c", json!([["p", "a", ["br"], "b", ["br"], "c"]])),
        ("<div>\n*a*\n</div>", json!([["p", "<div>\n*a*\n</div>"]])),
    ] {
        assert_eq!(json!(route.tree(text).await), tree, "{text:?}");
    }
}

#[tokio::test]
async fn a_link_leads_to_a_page_or_a_mail_or_is_text() {
    let route = Route::open().await;
    let unsafe_ones = [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "&#106;avascript:alert(1)",
        "java\tscript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "//x.org",
        "/a",
        "#a",
        "https:x",
        " javascript:x",
    ];
    for url in unsafe_ones {
        for text in [format!("[a](<{url}>)"), format!("![a](<{url}>)"), format!("[a]\n\n[a]: <{url}>")] {
            let tree = json!(route.tree(&text).await).to_string();
            assert!(!tree.contains("href"), "{text}: {tree}");
        }
    }
    for url in ["https://x.org", "HTTP://x.org", "mailto:ann@x.org"] {
        assert_eq!(json!(route.tree(&format!("[a]({url})")).await), json!([["p", ["a", {"href": url}, "a"]]]));
    }
}

#[tokio::test]
async fn whatever_a_text_holds_its_tree_holds_what_is_allowed() {
    const PIECES: &[&str] = &[
        "<img src=x onerror=y>",
        "[a](",
        "javascript:",
        "https://x.org",
        ")",
        "![",
        "]",
        "| a | b |\n|--|--|\n",
        "> ",
        "- ",
        "1. ",
        "    ",
        "\n",
        "\n\n",
        "```",
        "`",
        "**",
        "_",
        "~~",
        "[^1]",
        "[^1]: ",
        "<",
        "&lt;",
        "\\",
        "\0",
        "\u{202e}",
        "é",
        "# ",
        "- [ ] ",
        "$",
        "$$",
        "\\(",
        "\\)",
        "\\[",
        "\\]",
        "x^2",
        "\\frac12",
        "[!NOTE]\n",
        "<a@b.c>",
        "===\n",
        "\"",
        "{}",
        " ",
    ];
    let route = Route::open().await;
    let mut state = 1u64;
    for _ in 0..400 {
        let mut text = String::new();
        for _ in 0..30 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(PIECES[(state >> 33) as usize % PIECES.len()]);
        }
        route.tree(&text).await.iter().for_each(|tree| assert_allowed(tree, 100));
    }
}

#[tokio::test]
async fn texts_and_trees_are_bounded() {
    let route = Route::open().await;
    for nested in
        [">".repeat(50_000), "- ".repeat(50_000), "*a ".repeat(50_000), "[".repeat(50_000), "**a _b ".repeat(20_000)]
    {
        let tree = route.tree(&format!("{nested}end")).await;
        tree.iter().for_each(|tree| assert_allowed(tree, 48));
        assert!(json!(tree).to_string().contains("end"), "nothing is lost");
    }
    assert_eq!(route.ask("a".repeat(MAX_TEXT)).await.status, 200);
    assert_eq!(route.ask("a".repeat(MAX_TEXT + 1)).await.error(), (413, "too_large"));
    // A table with 2,000 columns, and 2,000 rows of one cell each.
    let table = format!("{}\n{}\n{}", "|a".repeat(2_000), "|:-".repeat(2_000), "|a\n".repeat(2_000));
    assert!(table.len() < MAX_TEXT);
    assert_eq!(route.ask(table).await.error(), (413, "too_large"));
    assert_eq!(route.ask(b"a\xff").await.error(), (400, "bad_request"));
}

#[tokio::test]
async fn only_users_are_answered_and_each_only_so_often() {
    let route = Route::open().await;
    let expired = format!("Bearer {}", signed(Algorithm::HS256, &but(json!({"exp": TODAY - 60}))));
    for (authorization, code) in [("", "no_token"), ("Bearer x", "rejected"), (&expired, "rejected")] {
        let answer = send(route.address, "/markdown", &[("Authorization", authorization)], b"a").await;
        assert_eq!(answer.error(), (401, code));
    }
    let ask = async || send(route.address, "/markdown", &[("Authorization", &route.token)], b"a").await;
    for _ in 0..RATE.burst {
        assert_eq!(ask().await.status, 200);
    }
    let answer = ask().await;
    assert_eq!((answer.error(), answer.header("retry-after")), ((429, "too_many_attempts"), Some("1")));
    let other = format!("Bearer {}", signed(Algorithm::HS256, &but(json!({"sub": "bea", "jti": "2"}))));
    assert_eq!(send(route.address, "/markdown", &[("Authorization", &other)], b"a").await.status, 200);
    route.hands.forward(RATE.refill);
    assert_eq!(ask().await.status, 200);
}
