//! Configuration tables: each field is declared once, with its default and its documentation.

/// The documentation of a table: its own lines, and its fields.
pub(super) type Sentences = (&'static [&'static str], &'static [Field]);

/// A field: its name, its type and its lines.
pub(super) type Field = (&'static str, &'static str, &'static [&'static str]);

/// Declares a table. A field without a default must be set whenever the table is present. A path in brackets behind a
/// field's type reads the field.
macro_rules! table {
    (@struct [$(#[$attribute:meta])*] $(#[doc = $about:literal])+ $name:ident {
        $($(#[doc = $sentence:literal])+ $field:ident: $type:ty $([$read:literal])?,)+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        $(#[$attribute])*
        pub struct $name {
            $($(#[doc = $sentence])+ $(#[serde(deserialize_with = $read)])? pub $field: $type,)+
        }

        impl $name {
            /// The documentation, for `lockstep config`.
            pub(in crate::config) const SENTENCES: crate::config::table::Sentences =
                (&[$($about),+], &[$((stringify!($field), stringify!($type), &[$($sentence),+])),+]);
        }
    };
    ($(#[doc = $about:literal])+ pub struct $name:ident {
        $($(#[doc = $sentence:literal])+ pub $field:ident: $type:ty $([$read:literal])? = $default:expr,)+
    }) => {
        table! { @struct [#[serde(default, deny_unknown_fields)]] $(#[doc = $about])+ $name {
            $($(#[doc = $sentence])+ $field: $type $([$read])?,)+
        } }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }
    };
    ($(#[doc = $about:literal])+ pub struct $name:ident {
        $($(#[doc = $sentence:literal])+ pub $field:ident: $type:ty,)+
    }) => {
        table! { @struct [#[serde(deny_unknown_fields)]] $(#[doc = $about])+ $name {
            $($(#[doc = $sentence])+ $field: $type,)+
        } }
    };
}

pub(super) use table;
