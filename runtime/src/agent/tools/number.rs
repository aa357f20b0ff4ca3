//! Numbers with the results that people expect: `0.1 + 0.2` is `0.3`. A number is a fraction of two 128-bit integers
//! while that is possible, and a 64-bit float from then on.

use core::fmt;

use super::calculator::Fault;

/// The most decimal places of an exact number.
const MAX_PLACES: u32 = 30;
/// The largest integer exponent that keeps a number exact.
const MAX_EXPONENT: u128 = 1_024;

/// A number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    /// A fraction in lowest terms; its denominator is positive.
    Exact(i128, i128),
    /// Any other number. It is finite.
    Real(f64),
}

impl Number {
    /// Parses a literal: digits, with an optional point and exponent.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        exact(text).map_or_else(|| Self::real(text.parse().unwrap_or(f64::NAN)), Ok)
    }

    /// A float, if it can be displayed.
    pub(super) fn real(value: f64) -> Result<Self, Fault> {
        if value.is_nan() {
            Err(Fault::Undefined)
        } else if value.is_infinite() {
            Err(Fault::Overflow)
        } else {
            Ok(Self::Real(value))
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "this is where exactness ends")]
    pub(super) fn float(self) -> f64 {
        match self {
            Self::Exact(over, under) => over as f64 / under as f64,
            Self::Real(value) => value,
        }
    }

    /// Whether it is displayed without rounding.
    pub(super) fn is_exact(self) -> bool {
        self.decimal().is_some()
    }

    fn is_zero(self) -> bool {
        self.float() == 0.0
    }

    pub(super) fn negate(self) -> Result<Self, Fault> {
        Self::Exact(0, 1).minus(self)
    }

    pub(super) fn plus(self, other: Self) -> Result<Self, Fault> {
        let sum = |(a, b): (i128, i128), (c, d): (i128, i128)| {
            fraction(a.checked_mul(d)?.checked_add(c.checked_mul(b)?)?, b.checked_mul(d)?)
        };
        self.with(other, sum, |a, b| a + b)
    }

    pub(super) fn minus(self, other: Self) -> Result<Self, Fault> {
        let difference = |(a, b): (i128, i128), (c, d): (i128, i128)| {
            fraction(a.checked_mul(d)?.checked_sub(c.checked_mul(b)?)?, b.checked_mul(d)?)
        };
        self.with(other, difference, |a, b| a - b)
    }

    pub(super) fn times(self, other: Self) -> Result<Self, Fault> {
        let product = |(a, b): (i128, i128), (c, d): (i128, i128)| fraction(a.checked_mul(c)?, b.checked_mul(d)?);
        self.with(other, product, |a, b| a * b)
    }

    pub(super) fn over(self, other: Self) -> Result<Self, Fault> {
        if other.is_zero() {
            return Err(Fault::DivisionByZero);
        }
        let quotient = |(a, b): (i128, i128), (c, d): (i128, i128)| fraction(a.checked_mul(d)?, b.checked_mul(c)?);
        self.with(other, quotient, |a, b| a / b)
    }

    /// The remainder of a division; it has the sign of `self`.
    pub(super) fn rest(self, other: Self) -> Result<Self, Fault> {
        if other.is_zero() {
            return Err(Fault::DivisionByZero);
        }
        let rest = |(a, b): (i128, i128), (c, d): (i128, i128)| {
            fraction(a.checked_mul(d)?.checked_rem(c.checked_mul(b)?)?, b.checked_mul(d)?)
        };
        self.with(other, rest, |a, b| a % b)
    }

    pub(super) fn power(self, other: Self) -> Result<Self, Fault> {
        if self.is_zero() && other.float() < 0.0 {
            return Err(Fault::DivisionByZero);
        }
        let power = |(a, b): (i128, i128), (exponent, d): (i128, i128)| {
            if d != 1 || exponent.unsigned_abs() > MAX_EXPONENT {
                return None;
            }
            let times = u32::try_from(exponent.unsigned_abs()).ok()?;
            let (a, b) = (a.checked_pow(times)?, b.checked_pow(times)?);
            if exponent < 0 { fraction(b, a) } else { fraction(a, b) }
        };
        self.with(other, power, f64::powf)
    }

    pub(super) fn abs(self) -> Result<Self, Fault> {
        if self.float() < 0.0 { self.negate() } else { Ok(self) }
    }

    pub(super) fn sqrt(self) -> Result<Self, Fault> {
        let root = Self::real(self.float().sqrt())?;
        let Self::Exact(over, under) = self else { return Ok(root) };
        let exact = whole_root(over).zip(whole_root(under)).and_then(|(over, under)| fraction(over, under));
        Ok(exact.map_or(root, |(over, under)| Self::Exact(over, under)))
    }

    pub(super) fn floor(self) -> Result<Self, Fault> {
        match self {
            Self::Exact(over, under) => Ok(Self::Exact(over.div_euclid(under), 1)),
            Self::Real(value) => Self::real(value.floor()),
        }
    }

    pub(super) fn ceil(self) -> Result<Self, Fault> {
        self.negate()?.floor()?.negate()
    }

    pub(super) fn trunc(self) -> Result<Self, Fault> {
        if self.float() < 0.0 { self.ceil() } else { self.floor() }
    }

    /// Rounds to the nearest integer, and halves away from zero.
    pub(super) fn round(self) -> Result<Self, Fault> {
        if let Self::Real(value) = self {
            return Self::real(value.round());
        }
        let half = Self::Exact(1, 2);
        if self.float() < 0.0 { self.minus(half)?.ceil() } else { self.plus(half)?.floor() }
    }

    /// The result of the exact operation if it has one, otherwise of the float operation.
    fn with(
        self,
        other: Self,
        exact: impl Fn((i128, i128), (i128, i128)) -> Option<(i128, i128)>,
        float: impl Fn(f64, f64) -> f64,
    ) -> Result<Self, Fault> {
        if let (Self::Exact(a, b), Self::Exact(c, d)) = (self, other)
            && let Some((over, under)) = exact((a, b), (c, d))
        {
            return Ok(Self::Exact(over, under));
        }
        Self::real(float(self.float(), other.float()))
    }

    /// Its decimal digits, if they terminate.
    fn decimal(self) -> Option<String> {
        let Self::Exact(over, under) = self else { return None };
        let (mut rest, mut twos, mut fives) = (under, 0, 0);
        while rest % 2 == 0 {
            (rest, twos) = (rest / 2, twos + 1);
        }
        while rest % 5 == 0 {
            (rest, fives) = (rest / 5, fives + 1);
        }
        let places = twos.max(fives);
        if rest != 1 || places > MAX_PLACES {
            return None;
        }
        let scaled = over.checked_mul(10_i128.checked_pow(places)? / under)?;
        let sign = if scaled < 0 { "-" } else { "" };
        let places = places as usize;
        let digits = format!("{:0>width$}", scaled.unsigned_abs(), width = places + 1);
        let (whole, part) = digits.split_at(digits.len() - places);
        Some(if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") })
    }
}

impl fmt::Display for Number {
    /// All digits of an exact number whose digits terminate, 15 significant ones of any other.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(digits) = self.decimal() {
            return f.write_str(&digits);
        }
        let value = self.float();
        let rounded: f64 = format!("{value:.14e}").parse().unwrap_or(value);
        if rounded == 0.0 {
            f.write_str("0")
        } else if (1e-6..1e15).contains(&rounded.abs()) {
            write!(f, "{rounded}")
        } else {
            write!(f, "{rounded:e}")
        }
    }
}

/// A fraction in lowest terms, if the denominator can be made positive.
fn fraction(over: i128, under: i128) -> Option<(i128, i128)> {
    let (mut a, mut b) = (over.unsigned_abs(), under.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    let common = i128::try_from(a).ok().filter(|common| *common != 0)?;
    let (over, under) = (over / common, under / common);
    if under < 0 { Some((over.checked_neg()?, under.checked_neg()?)) } else { Some((over, under)) }
}

/// The square root, if it is an integer.
fn whole_root(square: i128) -> Option<i128> {
    let root = u128::try_from(square).ok()?.isqrt();
    let root = i128::try_from(root).ok()?;
    (root.checked_mul(root)? == square).then_some(root)
}

/// The literal as a fraction, if it is representable.
fn exact(text: &str) -> Option<Number> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: i128 = format!("{whole}{part}").parse().ok()?;
    let exponent = exponent.parse::<i32>().ok()?.checked_sub(i32::try_from(part.len()).ok()?)?;
    let scale = 10_i128.checked_pow(exponent.unsigned_abs())?;
    let (over, under) = if exponent < 0 { fraction(digits, scale)? } else { (digits.checked_mul(scale)?, 1) };
    Some(Number::Exact(over, under))
}
