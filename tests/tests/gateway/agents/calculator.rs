//! The calculator against a different kind of evaluator: a tree is evaluated directly, and its text by the calculator.

use lockstep::agent::tools::calculator::{Fault, MAX_DEPTH, MAX_LENGTH, evaluate};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Tree {
    Number(u32),
    Negative(Box<Tree>),
    Sum(Box<Tree>, Box<Tree>),
    Difference(Box<Tree>, Box<Tree>),
    Product(Box<Tree>, Box<Tree>),
    /// The divisor is a literal, so that it cannot evaluate to zero.
    Quotient(Box<Tree>, u32),
    Rest(Box<Tree>, u32),
    Power(Box<Tree>, u32),
}

impl Tree {
    /// The expression with as few parentheses as the grammar allows.
    fn text(&self) -> String {
        let within = |tree: &Self, least: u8| {
            let text = tree.text();
            if tree.strength() < least { format!("({text})") } else { text }
        };
        match self {
            Self::Number(number) => number.to_string(),
            Self::Negative(tree) => format!("-{}", within(tree, 2)),
            Self::Sum(a, b) => format!("{} + {}", within(a, 0), within(b, 1)),
            Self::Difference(a, b) => format!("{}-{}", within(a, 0), within(b, 1)),
            Self::Product(a, b) => format!("{} * {}", within(a, 1), within(b, 2)),
            Self::Quotient(a, b) => format!("{} / {b}", within(a, 1)),
            Self::Rest(a, b) => format!("{}%{b}", within(a, 1)),
            Self::Power(a, b) => format!("{}^{b}", within(a, 4)),
        }
    }

    fn strength(&self) -> u8 {
        match self {
            Self::Sum(..) | Self::Difference(..) => 0,
            Self::Product(..) | Self::Quotient(..) | Self::Rest(..) => 1,
            Self::Negative(_) => 2,
            Self::Power(..) => 3,
            Self::Number(_) => 4,
        }
    }

    /// The value in integers. `None` if it is a fraction or exceeds 128 bits.
    fn whole(&self) -> Option<i128> {
        match self {
            Self::Number(number) => Some(i128::from(*number)),
            Self::Negative(tree) => tree.whole()?.checked_neg(),
            Self::Sum(a, b) => a.whole()?.checked_add(b.whole()?),
            Self::Difference(a, b) => a.whole()?.checked_sub(b.whole()?),
            Self::Product(a, b) => a.whole()?.checked_mul(b.whole()?),
            Self::Quotient(..) => None,
            Self::Rest(a, b) => a.whole()?.checked_rem(i128::from(*b)),
            Self::Power(a, b) => a.whole()?.checked_pow(*b),
        }
    }

    /// The value in floats, with the largest intermediate value.
    fn float(&self) -> (f64, f64) {
        let both = |a: &Self, b: &Self, f: fn(f64, f64) -> f64| {
            let ((a, most_of_a), (b, most_of_b)) = (a.float(), b.float());
            (f(a, b), most_of_a.max(most_of_b))
        };
        let (value, most) = match self {
            Self::Number(number) => (f64::from(*number), 1.0),
            Self::Negative(tree) => (-tree.float().0, tree.float().1),
            Self::Sum(a, b) => both(a, b, |a, b| a + b),
            Self::Difference(a, b) => both(a, b, |a, b| a - b),
            Self::Product(a, b) => {
                let ((a, most_of_a), (b, most_of_b)) = (a.float(), b.float());
                (a * b, most_of_a * most_of_b)
            }
            Self::Quotient(a, b) => (a.float().0 / f64::from(*b), a.float().1),
            Self::Rest(a, b) => (a.float().0 % f64::from(*b), a.float().1),
            Self::Power(a, b) => (a.float().0.powf(f64::from(*b)), a.float().1.powf(f64::from(*b))),
        };
        (value, most.max(value.abs()))
    }
}

fn trees(fractions: bool) -> impl Strategy<Value = Tree> {
    (0..1_000_u32).prop_map(Tree::Number).prop_recursive(5, 24, 2, move |inner| {
        let one = inner.clone().prop_map(Box::new);
        let two = (inner.clone().prop_map(Box::new), inner.prop_map(Box::new));
        prop_oneof![
            one.clone().prop_map(Tree::Negative),
            two.clone().prop_map(|(a, b)| Tree::Sum(a, b)),
            two.clone().prop_map(|(a, b)| Tree::Difference(a, b)),
            two.prop_map(|(a, b)| Tree::Product(a, b)),
            (one.clone(), 0..4_u32).prop_map(|(a, b)| Tree::Power(a, b)),
            // A remainder jumps where rounding differs, so it is for integers only.
            (one, 1..100_u32).prop_map(move |(a, b)| if fractions { Tree::Quotient(a, b) } else { Tree::Rest(a, b) }),
        ]
    })
}

proptest! {
    #[test]
    fn whole_numbers_are_exact(tree in trees(false)) {
        let Some(whole) = tree.whole() else { return Ok(()) };
        let answer = evaluate(&tree.text()).expect("an expression that has a value");
        prop_assert_eq!(&answer.text, &whole.to_string(), "{}", tree.text());
        prop_assert!(answer.exact);
    }

    #[test]
    fn fractions_are_what_floats_say(tree in trees(true)) {
        let (value, most) = tree.float();
        let answer = evaluate(&tree.text()).expect("an expression that has a value");
        let found: f64 = answer.text.parse().expect("a number");
        prop_assert!((found - value).abs() <= 1e-9 * most.max(1.0), "{} = {found}, not {value}", tree.text());
    }

    #[test]
    fn any_text_has_a_value_or_an_error_with_its_place(text in "[-0-9+*/%^().,a-e ×√sqrt]{0,60}") {
        if let Err(error) = evaluate(&text) {
            prop_assert!((1..=text.chars().count() + 1).contains(&error.position), "{text:?}: {error}");
        }
    }
}

#[test]
fn values_are_as_expected() {
    for (expression, value) in [
        ("0.1 + 0.2", "0.3"),
        ("1/3", "0.333333333333333"),
        ("1/3*3", "1"),
        ("-2^2", "-4"),
        ("2^3^2", "512"),
        ("2^-2", "0.25"),
        ("2^100", "1267650600228229401496703205376"),
        ("10^40", "1e40"),
        ("-7 % 3", "-1"),
        ("7.5 % 2", "1.5"),
        ("sqrt(16) + sqrt(2.25)", "5.5"),
        ("sqrt(2)", "1.4142135623731"),
        ("round(2.5) + round(-2.5) + round(0.4)", "0"),
        ("floor(-1.5)", "-2"),
        ("floor(7 / -2)", "-4"),
        ("ceil(-1.5)", "-1"),
        ("trunc(-1.5)", "-1"),
        ("abs(-3) * max(1, 7, 3) - min(4, 2)", "19"),
        ("ln(e) + log(1000)", "4"),
        ("cos(pi)", "-1"),
        ("1.5e3 + .5 + 2.", "1502.5"),
        ("6 × 7 ÷ 2 − 1", "20"),
        ("0^0", "1"),
        ("- - 3", "3"),
        ("4^0.5", "2"),
        ("0.000001 * 0.000001", "0.000000000001"),
    ] {
        let found = evaluate(expression).map(|answer| answer.text);
        assert_eq!(found.as_deref(), Ok(value), "{expression}");
    }
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    for (expression, message) in [
        ("", "the expression ends too early at position 1"),
        ("1 +", "the expression ends too early at position 4"),
        ("(1 + 2", "the expression ends too early at position 7"),
        ("1 + * 2", "unexpected '*' at position 5"),
        ("1 2", "unexpected '2' at position 3"),
        ("1)", "unexpected ')' at position 2"),
        (".", "unexpected '.' at position 1"),
        ("2 $ 3", "unexpected '$' at position 3"),
        ("é + 1", "there is no function or constant \"é\" at position 1"),
        ("1 + foo(2)", "there is no function or constant \"foo\" at position 5"),
        ("sqrt(1, 2)", "wrong number of arguments for sqrt at position 1"),
        ("sqrt 2", "unexpected '2' at position 6"),
        ("1 / (2 - 2)", "division by zero at position 3"),
        ("5 % 0", "division by zero at position 3"),
        ("0 ^ -1", "division by zero at position 3"),
        ("10 ^ 400", "the result is too large at position 4"),
        ("1e999", "the result is too large at position 1"),
        ("exp(1000)", "the result is too large at position 1"),
        ("1 + sqrt(-1)", "the result is not a real number at position 5"),
        ("(-8) ^ 0.5", "the result is not a real number at position 6"),
        ("ln(0)", "the result is not a real number at position 1"),
    ] {
        let error = evaluate(expression).map_err(|error| error.to_string());
        assert_eq!(error, Err(message.to_owned()), "{expression}");
    }
}

#[test]
fn what_is_too_long_or_too_deep_is_refused() {
    let nested = |depth: usize| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(evaluate(&nested(MAX_DEPTH)).is_ok());
    for deep in [nested(MAX_DEPTH + 1), "-".repeat(MAX_DEPTH + 2) + "1", "2^".repeat(MAX_DEPTH + 2) + "1"] {
        let error = evaluate(&deep).expect_err("it nests too deep").to_string();
        assert!(error.contains("nests deeper than 64"), "{error}");
    }
    assert!(evaluate(&"1".repeat(MAX_LENGTH)).is_err_and(|error| error.to_string().contains("too large")));
    assert!(evaluate(&"1".repeat(MAX_LENGTH + 1)).is_err_and(|error| error.to_string().contains("1000 characters")));
}

/// Numbers at the limits of 128 bits, and operators between them.
fn hostile() -> impl Strategy<Value = String> {
    let edges = [
        "0",
        "1",
        "2",
        "1024",
        "1025",
        "0.5",
        "1e-30",
        "1e30",
        "1e38",
        "1e308",
        "1e309",
        "1e999999999999",
        ".1e-2147483648",
        "170141183460469231731687303715884105727",
        "-170141183460469231731687303715884105727",
        "(-170141183460469231731687303715884105727-1)",
        "(1/170141183460469231731687303715884105727)",
        "(1/(-170141183460469231731687303715884105727-1))",
        "85070591730234615865843651857942052864",
        "pi",
        "e",
        "sqrt(2)",
    ];
    let edge = prop::sample::select(edges.to_vec()).prop_map(str::to_owned);
    edge.prop_recursive(5, 40, 3, |inner| {
        let functions = ["abs", "ceil", "floor", "round", "trunc", "sqrt", "exp", "ln", "log", "sin", "cos", "tan"];
        let (operators, functions) =
            (prop::sample::select(vec!["+", "-", "*", "/", "%", "^", "^-"]), prop::sample::select(functions.to_vec()));
        prop_oneof![
            4 => (inner.clone(), operators, inner.clone()).prop_map(|(a, operator, b)| format!("({a}){operator}({b})")),
            2 => (functions, inner.clone()).prop_map(|(name, a)| format!("{name}({a})")),
            1 => inner.clone().prop_map(|a| format!("-{a}")),
            1 => prop::collection::vec(inner, 1..4).prop_map(|all| format!("max({})", all.join(","))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Every expression has a short value or an error. Nothing overflows.
    #[test]
    fn every_expression_has_a_value_or_a_fault(expression in hostile()) {
        if let Ok(answer) = evaluate(&expression) {
            prop_assert!(answer.text.len() < 100, "{}", answer.text);
        }
    }

    /// The same for any text.
    #[test]
    fn every_text_has_a_value_or_a_fault(text in "[-+*/%^().,0-9a-z\u{d7}\u{2212} ]{0,60}") {
        let _ = evaluate(&text);
    }
}

#[test]
fn the_least_number_is_no_exponent() {
    let least = "(-170141183460469231731687303715884105727-1)";
    assert_eq!(evaluate(&format!("2^{least}")).map(|answer| answer.text), Ok("0".to_owned()));
    assert_eq!(evaluate(&format!("0^{least}")).map_err(|error| error.fault), Err(Fault::DivisionByZero));
    for expression in ["abs(X)", "-X", "X % -1", "X / -1", "round(X)", "X^2", "1/X", "X - 1", "sqrt(X)", "(1/X)^X"] {
        let _ = evaluate(&expression.replace('X', least));
    }
}
