//! The guide.
//!
//! | chapter | for |
//! | --- | --- |
//! | [`operating`] | those who run the ready-made gateway |
//! | [`cluster`] | those for whom one machine is not enough |
//! | [`embedding`] | those who put the session layer into a service of their own |
//! | [`protocol`] | those who write a client |
//! | [`proofs`] | those who verify the gateway, or check a deployment |
//! | [`second_owners`] | those who look for the same mistakes in another code base |
//! | [`contributing`] | those who change the project |
//! | [`glossary`] | everyone: the terms |

#[doc = include_str!("guide/cluster.md")]
pub mod cluster {}

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

#[doc = include_str!("guide/second-owners.md")]
pub mod second_owners {}
