//! Formulas in Markdown: which text is a formula, what its tree contains, and that no LaTeX does harm.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::markdown::{Route, assert_allowed};

/// A tree with each formula replaced by its source: `[source]` inline, `[[source]]` as a block.
fn outline(tree: &Value) -> Value {
    let Some(parts) = tree.as_array() else { return tree.clone() };
    if parts[0] != "math" {
        return parts.iter().map(outline).collect();
    }
    let source = parts.last().expect("semantics")[2][2].clone();
    if parts[1] == json!({"display": "block"}) { json!([[source]]) } else { json!([source]) }
}

#[tokio::test]
async fn formulas_are_found_in_each_of_their_forms() {
    let route = Route::open().await;
    for (text, tree) in [
        (r"a $x^2$ b", json!([["p", "a ", ["x^2"], " b"]])),
        (r"a \(x^2\) b", json!([["p", "a ", ["x^2"], " b"]])),
        (r"$$x_1$$ \[y_1\]", json!([["p", [["x_1"]], " ", [["y_1"]]]])),
        ("\\[\na\n+ b\n= c\n\\]", json!([["p", [["a\n+ b\n= c"]]]])),
        ("$$\na\n- b\n$$", json!([["p", [["a\n- b"]]]])),
        ("> \\[\n> a > b\n> \\]", json!([["blockquote", ["p", [["a > b"]]]]])),
        ("1. \\[\n   a\n   \\]", json!([["ol", {"start": "1"}, ["li", [["a"]]]]])),
        (r"**\(x\)**, *$y$*", json!([["p", ["strong", ["x"]], ", ", ["em", ["y"]]]])),
        ("# \\(x\\)", json!([["h3", ["x"]]])),
        (
            "|a|\n|-|\n|\\(|x|\\)|",
            json!([["table", ["thead", ["tr", ["th", "a"]]], ["tbody", ["tr", ["td", ["|x|"]]]]]]),
        ),
        (r"\(a_1\) and \(b_1\)", json!([["p", ["a_1"], " and ", ["b_1"]]])),
        (r"[\(x\)](https://x.org)", json!([["p", ["a", {"href": "https://x.org"}, ["x"]]]])),
        (r"是$x$的", json!([["p", "是", ["x"], "的"]])),
    ] {
        assert_eq!(route.tree(text).await.iter().map(outline).collect::<Value>(), tree, "{text:?}");
    }
}

#[tokio::test]
async fn what_is_no_formula_is_as_it_was() {
    let route = Route::open().await;
    for (text, shown) in [
        ("$5 and $10", "$5 and $10"),
        ("$5-$10, $1,000/$2,000", "$5-$10, $1,000/$2,000"),
        ("US$5 or CA$6", "US$5 or CA$6"),
        ("$HOME/$PATH", "$HOME/$PATH"),
        ("5$ and 6$", "5$ and 6$"),
        ("$ x $", "$ x $"),
        ("$$x", "$$x"),
        (r"\$x\$", "$x$"),
        (r"\(x", "(x"),
        (r"half \[ x_1 and y_1", "half [ x_1 and y_1"),
        (r"\\(x\\)", r"\(x\)"),
        ("\\(a\n\nb\\)", "(ab)"),
        (r"\[a\](b)", "[a](b)"),
        (r"\(\) \[ \]", "() [ ]"),
        ("\u{f0000} \\(x\\)", "\u{f0000} (x)"),
    ] {
        let tree = route.tree(text).await;
        let text_of = tree.iter().flat_map(|block| &block.as_array().expect("a block")[1..]).map(|text| text.as_str());
        assert_eq!(text_of.collect::<Option<String>>().as_deref(), Some(shown), "{text:?}: {tree:?}");
    }
    for (text, tree) in [
        (r"`\(x\)` `$y$`", json!([["p", ["code", r"\(x\)"], " ", ["code", "$y$"]]])),
        ("```\n\\[ x \\]\n$$y$$\n```", json!([["pre", "\\[ x \\]\n$$y$$"]])),
        ("    \\(x\\)", json!([["pre", r"\(x\)"]])),
        ("use `\\(` and `\\)`", json!([["p", "use ", ["code", r"\("], " and ", ["code", r"\)"]]])),
        ("<div>\n\\(x\\)\n</div>", json!([["p", "<div>\n\\(x\\)\n</div>"]])),
        (r"[a](https://x.org/\(b\))", json!([["p", ["a", {"href": r"https://x.org/\(b\)"}, "a"]]])),
        ("```\\(x\\)\na\n```", json!([["pre", {"language": r"\(x\)"}, "a"]])),
        (r"\(\frac{1\) $\nothing$", json!([["p", ["code", r"\frac{1"], " ", ["code", r"\nothing"]]])),
    ] {
        assert_eq!(json!(route.tree(text).await), tree, "{text:?}");
    }
}

#[tokio::test]
async fn a_formula_is_mathml_with_its_source() {
    let route = Route::open().await;
    let annotated = |inner: Value, source: &str| json!([["p", ["math", ["semantics", inner, ["annotation", {"encoding": "application/x-tex"}, source]]]]]);
    for (source, inner) in [
        (r"\frac{1}{x^2}", json!(["mrow", ["mfrac", ["mn", "1"], ["msup", ["mi", "x"], ["mn", "2"]]]])),
        ("a<b", json!(["mrow", ["mi", "a"], ["mo", "<"], ["mi", "b"]])),
        (r"\text{<b>\&amp;}", json!(["mrow", ["mtext", "<b>&amp;"]])),
        (r"\mbox{if }x", json!(["mrow", ["mtext", "if\u{a0}"], ["mi", "x"]])),
    ] {
        assert_eq!(json!(route.tree(&format!("${source}$")).await), annotated(inner, source));
    }
    let tree =
        json!(route.tree(r"$$\begin{split} a &= b \\[6pt] &= \boxed{c} \end{split} \tag{7}$$").await).to_string();
    for part in [r#""class":"right""#, r#""class":"line-left line-top line-bottom""#, r#"["mtext","(7)"]"#] {
        assert!(tree.contains(part), "{part}: {tree}");
    }
    assert!(!tree.contains("\"6\"") && !tree.contains("style=") && !tree.contains("\"style\""), "{tree}");
}

#[tokio::test]
async fn what_models_write_is_shown() {
    let route = Route::open().await;
    for source in [
        r"\begin{pmatrix} a & b \\ c & d \end{pmatrix} \begin{cases} x & y \\ z \end{cases}",
        r"\begin{align*} a &= b \\[2pt] &= c \end{align*}",
        r"\begin{array}{c|cc} 1 & 2 & 3 \\ \hline 4 & 5 & 6 \end{array}",
        r"\sum_{\substack{i<n \\ j<m}} \int_0^\infty \prod\limits_k \lim_{x\to 0} \max_x \operatorname*{argmax}_x \argmin_x",
        r"\hat{y} = \bm{W}\vec{x} + \boldsymbol{b}, \mathbb{R} \mathcal{L} \mathscr{F} \mathfrak{g} \mathrm{d}x \pmb{x}",
        r"\left.\frac{dy}{dx}\right|_{x=0} \Bigl( \bigg| \lVert x \rVert \norm{x} \abs{x} \lfloor x \rfloor",
        r"\underbrace{a+b}_{n} \overline{AB} \widehat{ABC} \xrightarrow{f} \overset{!}{=} \stackrel{d}{\to}",
        r"\textcolor{red}{x} + {\color{blue} y} \cancel{z} \phantom{x} \mbox{a} \text{b} \Large x",
        r"90^\circ \; 50\% \, 1{,}000 \quad a \equiv b \pmod{n} \binom{n}{k} \tfrac12 \dfrac34 \sqrt[3]{x}",
        r"E = mc^2 \tag{1}",
        r"x \label{eq:a}",
    ] {
        let tree = route.tree(&format!("$${source}$$")).await;
        assert_eq!(outline(&tree[0]), json!(["p", [[source]]]), "{source}");
        tree.iter().for_each(|tree| assert_allowed(tree, 100));
    }
}

#[tokio::test]
async fn formulas_are_bounded() {
    let route = Route::open().await;
    let deep = |open: &str, close: &str, count: usize| format!("${}x{}$", open.repeat(count), close.repeat(count));
    for text in [
        deep("{", "}", 2_000),
        deep(r"\sqrt{", "}", 500),
        deep(r"\left(", r"\right)", 300),
        deep(r"\begin{matrix}", r"\end{matrix}", 140),
        deep(r"\sqrt ", "", 680),
        deep(r"\displaystyle ", "", 290),
        deep(r"\frac", "", 800),
        format!("${}x$", "'".repeat(4_000)),
        format!("${}$", "x".repeat(5_000)),
    ] {
        let text = format!("{text} and the end");
        let tree = route.tree(&text).await;
        tree.iter().for_each(|tree| assert_allowed(tree, 100));
        assert!(json!(tree).to_string().contains(" and the end"));
    }
    for many in [r"\(".repeat(100_000), "$".repeat(200_000), r"\( x ".repeat(50_000), "${".repeat(100_000)] {
        assert_eq!(route.ask(many).await.status, 200);
    }
    assert_eq!(route.ask("$x$ ".repeat(60_000)).await.error(), (413, "too_large"));
}

/// LaTeX, and near misses.
fn near_latex() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        r"\frac",
        r"\sqrt",
        "[",
        "]",
        "{",
        "}",
        "{",
        "}",
        "^",
        "_",
        "x",
        "12",
        "&",
        r"\\",
        r"\\[2pt]",
        r"\left(",
        r"\right)",
        r"\begin{matrix}",
        r"\end{matrix}",
        r"\begin{align}",
        r"\end{align}",
        r"\begin{split}",
        r"\end{split}",
        r"\begin{array}{c|c}",
        r"\end{array}",
        r"\hline",
        r"\text{",
        r"\mbox{",
        r"\boxed",
        r"\tag{1}",
        r"\label{a}",
        r"\color{red}",
        r"\textcolor{red}",
        r"\mathbf",
        r"\operatorname",
        r"\not",
        r"\limits",
        r"\middle|",
        r"\over",
        "'",
        "%",
        "#1",
        "~",
        "<",
        "\"",
        r"\href{javascript:x}{y}",
        r"\def\a{\a\a}",
        r"\a",
        r"\",
        " ",
        "é",
        "\0",
        r"\hspace{-1em}",
        r"\big",
        r"\phantom",
        r"\substack",
        r"\cancel",
        r"\ref{a}",
        "\n",
    ];
    prop::collection::vec(prop::sample::select(PIECES), 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Text between formula delimiters is rendered as a formula or left as written, with no other effect.
    #[test]
    fn whatever_a_formula_holds_its_tree_holds_what_is_allowed(
        sources in prop::collection::vec(prop_oneof![near_latex(), any::<String>(), r"[\\a-z{}^_&$ ]{0,40}"], 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let route = Route::open().await;
            for source in &sources {
                for text in [format!("a ${source}$ b"), format!("\\[{source}\\]"), format!("- \\({source}\\)"), source.clone()] {
                    route.tree(&text).await.iter().for_each(|tree| assert_allowed(tree, 100));
                }
            }
        });
    }
}
