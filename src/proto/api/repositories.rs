//! The types of `/api/v1/repositories`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A request for a repository to be in the configuration. What is not said stays as it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRepository {
    /// Its directory on this host; this or `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its URL; this or `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The branch that work starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<String>,
    /// The program that checks finished work, and its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<String>>,
    /// What is said beside it of a repository that is new. One that is there keeps what it says, and what it leaves out.
    #[serde(default)]
    pub proposed: ProposedRepository,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a repository says that is new.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposedRepository {
    /// The branch that work starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<String>,
    /// The program that checks finished work, and its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<String>>,
}
