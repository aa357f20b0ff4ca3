//! Arithmetic.
//!
//! ```text
//! sum     = product { ("+" | "-") product }
//! product = signed { ("*" | "/" | "%") signed }
//! signed  = ("-" | "+") signed | power
//! power   = atom [ "^" signed ]                    so -2^2 is -4, and 2^3^2 is 2^9
//! atom    = number | name | name "(" sum { "," sum } ")" | "(" sum ")"
//! ```
//!
//! `%` is the remainder, with the sign of its left side. Fractions are exact while they fit in 128 bits.

use core::fmt;

use serde_json::{Value, json};

use super::number::Number;
use super::{CallError, Invocation, Tool, text_argument};
use crate::BoxFuture;

/// The longest expression, in characters.
pub const MAX_LENGTH: usize = 1_000;
/// How deep parentheses, signs and exponents may nest.
pub const MAX_DEPTH: usize = 64;

/// The functions and constants, each with the least and the most arguments it takes.
const NAMES: &[(&str, usize, usize)] = &[
    ("abs", 1, 1),
    ("ceil", 1, 1),
    ("cos", 1, 1),
    ("e", 0, 0),
    ("exp", 1, 1),
    ("floor", 1, 1),
    ("ln", 1, 1),
    ("log", 1, 1),
    ("max", 1, 16),
    ("min", 1, 16),
    ("pi", 0, 0),
    ("round", 1, 1),
    ("sin", 1, 1),
    ("sqrt", 1, 1),
    ("tan", 1, 1),
    ("trunc", 1, 1),
];

/// Why an expression is not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has more than [`MAX_LENGTH`] characters.
    TooLong,
    /// It nests deeper than [`MAX_DEPTH`].
    TooDeep,
    /// It is empty, or ends where more must follow.
    UnexpectedEnd,
    /// This character is not allowed here.
    Unexpected(char),
    /// No function or constant has this name.
    UnknownName(String),
    /// The function takes a different number of arguments.
    Arguments(&'static str),
    /// A division by zero.
    DivisionByZero,
    /// The result is too large.
    Overflow,
    /// The result is not a real number, such as the square root of -1.
    Undefined,
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalculatorError {
    /// The position of the fault, in characters, counted from 1.
    pub position: usize,
    /// The fault.
    pub fault: Fault,
}

impl CalculatorError {
    /// Whether the text is not an expression at all, as opposed to an expression without a value.
    #[must_use]
    pub const fn is_syntax(&self) -> bool {
        match self.fault {
            Fault::TooLong
            | Fault::TooDeep
            | Fault::UnexpectedEnd
            | Fault::Unexpected(_)
            | Fault::UnknownName(_)
            | Fault::Arguments(_) => true,
            Fault::DivisionByZero | Fault::Overflow | Fault::Undefined => false,
        }
    }
}

impl fmt::Display for CalculatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            Fault::TooLong => write!(f, "the expression has more than {MAX_LENGTH} characters")?,
            Fault::TooDeep => write!(f, "the expression nests deeper than {MAX_DEPTH} levels")?,
            Fault::UnexpectedEnd => f.write_str("the expression ends too early")?,
            Fault::Unexpected(character) => write!(f, "unexpected {character:?}")?,
            Fault::UnknownName(name) => write!(f, "there is no function or constant {name:?}")?,
            Fault::Arguments(name) => write!(f, "wrong number of arguments for {name}")?,
            Fault::DivisionByZero => f.write_str("division by zero")?,
            Fault::Overflow => f.write_str("the result is too large")?,
            Fault::Undefined => f.write_str("the result is not a real number")?,
        }
        write!(f, " at position {}", self.position)
    }
}

impl core::error::Error for CalculatorError {}

/// The value of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// In decimal: all digits if it is exact, otherwise 15 significant ones.
    pub text: String,
    /// Whether it is exact, without rounding.
    pub exact: bool,
}

/// Evaluates an expression.
///
/// ```
/// use lockstep::agent::tools::calculator::evaluate;
///
/// assert_eq!(evaluate("0.1 + 0.2")?.text, "0.3");
/// assert_eq!(evaluate("2^100")?.text, "1267650600228229401496703205376");
/// assert_eq!(evaluate("3 * (4 + ").unwrap_err().to_string(), "the expression ends too early at position 10");
/// # Ok::<(), lockstep::agent::tools::calculator::CalculatorError>(())
/// ```
///
/// # Errors
///
/// [`CalculatorError`].
pub fn evaluate(expression: &str) -> Result<Answer, CalculatorError> {
    let text: Vec<char> = expression.chars().take(MAX_LENGTH + 1).collect();
    if text.len() > MAX_LENGTH {
        return Err(CalculatorError { position: MAX_LENGTH + 1, fault: Fault::TooLong });
    }
    let mut parser = Parser { text: &text, at: 0, depth: 0 };
    let number = parser.sum()?;
    match parser.peek() {
        Some(character) => Err(parser.error(Fault::Unexpected(character))),
        None => Ok(Answer { text: number.to_string(), exact: number.is_exact() }),
    }
}

/// Whether `word` is the name of a function or constant.
#[must_use]
pub fn is_name(word: &str) -> bool {
    NAMES.iter().any(|(name, ..)| *name == word)
}

struct Parser<'a> {
    text: &'a [char],
    at: usize,
    depth: usize,
}

type Parsed = Result<Number, CalculatorError>;

impl Parser<'_> {
    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        while let Some((at, operator)) = self.one_of(&['+', '-']) {
            let right = self.product()?;
            left = located(at, if operator == '+' { left.plus(right) } else { left.minus(right) })?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.signed()?;
        while let Some((at, operator)) = self.one_of(&['*', '/', '%']) {
            let right = self.signed()?;
            let value = match operator {
                '*' => left.times(right),
                '/' => left.over(right),
                _ => left.rest(right),
            };
            left = located(at, value)?;
        }
        Ok(left)
    }

    fn signed(&mut self) -> Parsed {
        match self.one_of(&['-', '+']) {
            Some((at, '-')) => {
                let value = self.deeper(Self::signed)?;
                located(at, value.negate())
            }
            Some(_) => self.deeper(Self::signed),
            None => self.power(),
        }
    }

    fn power(&mut self) -> Parsed {
        let base = self.atom()?;
        match self.one_of(&['^']) {
            Some((at, _)) => {
                let exponent = self.deeper(Self::signed)?;
                located(at, base.power(exponent))
            }
            None => Ok(base),
        }
    }

    fn atom(&mut self) -> Parsed {
        match self.peek() {
            None => Err(self.error(Fault::UnexpectedEnd)),
            Some('(') => {
                self.at += 1;
                let value = self.deeper(Self::sum)?;
                self.expect(')')?;
                Ok(value)
            }
            Some(first) if first.is_ascii_digit() || first == '.' => self.number(),
            Some(first) if first.is_alphabetic() => self.name(),
            Some(other) => Err(self.error(Fault::Unexpected(other))),
        }
    }

    fn number(&mut self) -> Parsed {
        let begin = self.at;
        self.digits();
        if self.text.get(self.at) == Some(&'.') {
            self.at += 1;
            self.digits();
        }
        let digits = self.text[begin..self.at].iter().filter(|character| character.is_ascii_digit()).count();
        if digits == 0 {
            return Err(CalculatorError { position: begin + 1, fault: Fault::Unexpected('.') });
        }
        let sign = usize::from(matches!(self.text.get(self.at + 1), Some('+' | '-')));
        let exponent = matches!(self.text.get(self.at), Some('e' | 'E'))
            && self.text.get(self.at + 1 + sign).is_some_and(char::is_ascii_digit);
        if exponent {
            self.at += 1 + sign;
            self.digits();
        }
        let text: String = self.text[begin..self.at].iter().collect();
        located(begin, Number::parse(&text))
    }

    fn digits(&mut self) {
        while self.text.get(self.at).is_some_and(char::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn name(&mut self) -> Parsed {
        let begin = self.at;
        let rest = self.text[begin..].iter().take_while(|character| character.is_alphanumeric());
        let name: String = rest.flat_map(|character| character.to_lowercase()).collect();
        while self.text.get(self.at).is_some_and(|character| character.is_alphanumeric()) {
            self.at += 1;
        }
        let position = begin + 1;
        let Some((name, least, most)) = NAMES.iter().find(|(known, ..)| *known == name) else {
            return Err(CalculatorError { position, fault: Fault::UnknownName(name) });
        };
        let mut arguments = Vec::new();
        if *most > 0 {
            self.expect('(')?;
            arguments.push(self.deeper(Self::sum)?);
            while arguments.len() < *most && self.one_of(&[',']).is_some() {
                arguments.push(self.deeper(Self::sum)?);
            }
            if self.peek() == Some(',') || arguments.len() < *least {
                return Err(CalculatorError { position, fault: Fault::Arguments(name) });
            }
            self.expect(')')?;
        }
        located(begin, apply(name, &arguments))
    }

    /// The next character after white space.
    fn peek(&mut self) -> Option<char> {
        while self.text.get(self.at).is_some_and(|character| character.is_whitespace()) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Consumes one of these operators. Returns it as ASCII, with its position.
    fn one_of(&mut self, operators: &[char]) -> Option<(usize, char)> {
        let operator = match self.peek()? {
            '\u{d7}' | '\u{22c5}' => '*',
            '\u{f7}' => '/',
            '\u{2212}' => '-',
            other => other,
        };
        operators.contains(&operator).then(|| {
            self.at += 1;
            (self.at - 1, operator)
        })
    }

    fn expect(&mut self, wanted: char) -> Result<(), CalculatorError> {
        match self.peek() {
            Some(found) if found == wanted => {
                self.at += 1;
                Ok(())
            }
            Some(other) => Err(self.error(Fault::Unexpected(other))),
            None => Err(self.error(Fault::UnexpectedEnd)),
        }
    }

    fn deeper(&mut self, rule: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        if self.depth >= MAX_DEPTH {
            return Err(self.error(Fault::TooDeep));
        }
        self.depth += 1;
        let value = rule(self);
        self.depth -= 1;
        value
    }

    const fn error(&self, fault: Fault) -> CalculatorError {
        CalculatorError { position: self.at + 1, fault }
    }
}

fn located(at: usize, value: Result<Number, Fault>) -> Parsed {
    value.map_err(|fault| CalculatorError { position: at + 1, fault })
}

/// Applies a function of [`NAMES`] to its arguments.
fn apply(name: &str, arguments: &[Number]) -> Result<Number, Fault> {
    let Some(first) = arguments.first().copied() else {
        return Number::real(if name == "pi" { core::f64::consts::PI } else { core::f64::consts::E });
    };
    let larger = |a: Number, b: Number| if b.float() > a.float() { b } else { a };
    let smaller = |a: Number, b: Number| if b.float() < a.float() { b } else { a };
    match name {
        "abs" => first.abs(),
        "ceil" => first.ceil(),
        "floor" => first.floor(),
        "max" => Ok(arguments.iter().copied().fold(first, larger)),
        "min" => Ok(arguments.iter().copied().fold(first, smaller)),
        "round" => first.round(),
        "sqrt" => first.sqrt(),
        "trunc" => first.trunc(),
        // The logarithm of zero is not a number.
        "ln" | "log" if first.float() <= 0.0 => Err(Fault::Undefined),
        "ln" => Number::real(first.float().ln()),
        "log" => Number::real(first.float().log10()),
        "exp" => Number::real(first.float().exp()),
        "sin" => Number::real(first.float().sin()),
        "cos" => Number::real(first.float().cos()),
        _ => Number::real(first.float().tan()),
    }
}

/// [`evaluate`] as a tool.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calculator;

impl Tool for Calculator {
    fn name(&self) -> &'static str {
        "calculator"
    }

    fn description(&self) -> &'static str {
        "Evaluates an arithmetic expression exactly where possible. Operators: + - * / % (remainder) ^ (power) and \
         parentheses. Functions: abs ceil cos exp floor ln log (base 10) max min round sin sqrt tan trunc; angles in \
         radians. Constants: pi, e."
    }

    fn parameters(&self) -> Value {
        json!({
            "type": "object",
            "properties": {
                "expression": { "type": "string", "description": "For example: 3 * (4 + sqrt(2))" },
            },
            "required": ["expression"],
            "additionalProperties": false,
        })
    }

    fn call(&self, invocation: Invocation) -> BoxFuture<'_, Result<Value, CallError>> {
        Box::pin(async move {
            let expression = text_argument(&invocation.arguments, "expression")?;
            let answer = evaluate(expression).map_err(|error| error.to_string())?;
            Ok(json!({ "expression": expression, "result": answer.text, "exact": answer.exact }))
        })
    }
}
