//! The guide.
//!
//! | chapter | for |
//! | --- | --- |
//! | [`operating`] | those who run the ready-made gateway |
//! | [`embedding`] | those who put the session layer into a service of their own |
//! | [`protocol`] | those who write a client |
//! | [`proofs`] | those who verify the gateway, or check a deployment |
//! | [`contributing`] | those who change the project |
//! | [`glossary`] | everyone: the terms |

#[doc = include_str!("guide/contributing.md")]
pub mod contributing {}

#[doc = include_str!("guide/embedding.md")]
pub mod embedding {}

#[doc = include_str!("guide/glossary.md")]
pub mod glossary {}

#[doc = include_str!("guide/operating.md")]
pub mod operating {}

#[doc = include_str!("guide/proofs.md")]
pub mod proofs {}

#[doc = include_str!("guide/protocol.md")]
pub mod protocol {}
