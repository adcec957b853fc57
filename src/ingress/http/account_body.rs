//! Bodies about accounts.

use super::super::{AccountPatch, AccountRequest, minted_account_id};
use super::guard::Who;
use super::json::{self, Fields};
use super::problem::Problem;
use super::schemas;
use crate::access::Scope;
use crate::domain::{AccountKind, Client, Currency, Money};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// An account to be created.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the fields that `account` reads")]
pub struct CreateAccount {
    /// Minted where it is left out: then a repeat makes another account.
    #[schema(schema_with = schemas::account_id, required = false)]
    id: String,
    #[schema(schema_with = schemas::currency)]
    currency: String,
    /// Customer by default; an external account stands for the world outside and may go negative.
    #[schema(schema_with = schemas::account_kind, required = false)]
    kind: String,
    /// How far `posted - held` may go below zero; zero by default.
    #[schema(schema_with = schemas::amount_or_zero, required = false)]
    overdraft_limit: String,
    /// At most 16 KiB of compact JSON.
    metadata: Option<BTreeMap<String, String>>,
    /// Whose it is: the caller's own where it is left out and the caller does not see all
    /// accounts.
    #[schema(pattern = "^[!-~]{1,64}$")]
    owner: Option<String>,
}

/// Accounts to be created.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the fields that are read")]
pub struct CreateAccounts {
    /// At most 1000.
    #[schema(max_items = 1000)]
    accounts: Vec<CreateAccount>,
}

/// Changes to an account; what is left out stays.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the fields that `patch` reads")]
pub struct PatchAccount {
    /// Lowered only as far as it is unused.
    #[schema(schema_with = schemas::amount_or_zero, required = false)]
    overdraft_limit: String,
    /// Replaces all metadata; at most 16 KiB of compact JSON.
    #[schema(value_type = BTreeMap<String, String>, required = false)]
    metadata: BTreeMap<String, String>,
    /// Gives it to another owner.
    #[schema(schema_with = schemas::principal, required = false)]
    owner: String,
}

/// Reads an account that stands at `pointer` of the body.
pub fn account(text: &str, pointer: &str, who: &Who) -> Result<AccountRequest, Problem> {
    let mut fields = Fields::parse(text, pointer).map_err(Problem::invalid)?;
    let id = fields.optional("id", json::account_id);
    let currency: Option<Currency> = fields.required("currency", json::parsed);
    let kind: Option<AccountKind> = fields.optional("kind", json::parsed);
    let limit = fields.optional("overdraft_limit", |value| json::money(value, currency)).flatten();
    let metadata = fields.metadata("metadata");
    let owner: Option<Client> = fields.optional("owner", json::parsed);
    let faults = fields.finish();
    let (Some(currency), true) = (currency, faults.is_empty()) else {
        return Err(Problem::invalid(faults));
    };
    let named = id.is_some();
    let request = AccountRequest {
        id: id.unwrap_or_else(|| minted_account_id(rand::random())),
        currency,
        kind: kind.unwrap_or(AccountKind::Customer),
        overdraft_limit: limit.map_or(0, Money::minor),
        metadata: metadata.unwrap_or_default(),
        owner,
    };
    if who.principal.may_on_all(Scope::AccountsControl) {
        if request.overdraft_limit > 0 {
            who.changes_limits()?;
        }
        if request.kind == AccountKind::External {
            who.opens_accounts_to_others()?;
        }
        Ok(request)
    } else {
        of_its_own(request, named, who)
    }
}

/// What somebody may create who does not run accounts: a customer's, without credit, for itself.
/// The id is minted or begins with its own name, so that nobody finds out by trying which accounts
/// others have.
fn of_its_own(request: AccountRequest, named: bool, who: &Who) -> Result<AccountRequest, Problem> {
    let client = &who.principal.client;
    let other = request.owner.as_ref().is_some_and(|owner| owner != client);
    if request.kind == AccountKind::External || request.overdraft_limit > 0 || other {
        let what = "an external account, an overdraft or an account for somebody else";
        who.needs_on_all(Scope::AccountsControl, what)?;
    }
    if named && !request.id.as_str().starts_with(&format!("{client}:")) {
        let what = format!("an id that does not begin with {client}:");
        who.needs_on_all(Scope::AccountsControl, &what)?;
    }
    Ok(AccountRequest { owner: Some(client.clone()), ..request })
}

/// A patch whose limit waits for the account's currency.
pub struct Patch<'a> {
    limit: Option<&'a RawValue>,
    metadata: Option<BTreeMap<String, String>>,
    owner: Option<Client>,
}

impl<'a> Patch<'a> {
    /// Reads all that can be read without knowing the currency.
    pub fn parse(text: &'a str) -> Result<Self, Problem> {
        let mut fields = Fields::parse(text, "").map_err(Problem::invalid)?;
        let limit =
            fields.present("overdraft_limit", |value| json::money(value, None).map(|_| value));
        let metadata = fields.new_metadata("metadata");
        let owner = fields.present("owner", json::parsed);
        let faults = fields.finish();
        if !faults.is_empty() {
            return Err(Problem::invalid(faults));
        }
        Ok(Self { limit, metadata, owner })
    }

    /// Whether it changes what decides about money, or whose the account is.
    pub fn decides(&self) -> bool {
        self.limit.is_some() || self.owner.is_some()
    }

    /// Whether it gives the account away.
    pub fn has_owner(&self) -> bool {
        self.owner.is_some()
    }

    /// Whether the account's currency is needed.
    pub fn has_limit(&self) -> bool {
        self.limit.is_some()
    }

    /// The patch of an account in this currency.
    pub fn in_currency(self, currency: Currency) -> Result<AccountPatch, Problem> {
        let limit = self.limit.map(|value| json::money(value, Some(currency))).transpose();
        let limit = limit
            .map_err(|detail| Problem::fault(super::Place::Body, "/overdraft_limit", detail))?;
        Ok(AccountPatch {
            overdraft_limit: limit.flatten().map(Money::minor),
            metadata: self.metadata,
            owner: self.owner,
        })
    }

    /// The patch without a limit.
    pub fn without_limit(self) -> AccountPatch {
        AccountPatch { overdraft_limit: None, metadata: self.metadata, owner: self.owner }
    }
}
