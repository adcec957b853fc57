//! What the description says of parameters: the form of each by its name, so that whoever makes
//! calls from the description makes some that are answered.

use super::schemas;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr, Schema};

/// Writes the form of every parameter that has one.
pub fn describe(openapi: &mut OpenApi) {
    for (path, item) in &mut openapi.paths.paths {
        for operation in
            [&mut item.get, &mut item.post, &mut item.patch, &mut item.put].into_iter().flatten()
        {
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter
                    && let Some(form) = form(path, parameter)
                {
                    parameter.schema = Some(form);
                }
            }
        }
    }
}

fn form(path: &str, parameter: &Parameter) -> Option<RefOr<Schema>> {
    let object = match (&parameter.parameter_in, parameter.name.as_str()) {
        (ParameterIn::Path, _) if path.contains("/accounts/") => schemas::account_id(),
        (ParameterIn::Path, _) => schemas::transfer_id_given(),
        (_, "prefix" | "source") => schemas::account_id(),
        (_, "owner") => schemas::principal(),
        (_, "Idempotency-Key" | "idempotency_key") => schemas::idempotency_key(),
        (_, "cursor") => schemas::cursor(),
        (_, "consistency") => schemas::names(["strong", "projected"]),
        (_, "direction") => schemas::names(["out", "in"]),
        (_, "status") if path == "/v1/accounts" => schemas::account_status(),
        (_, "status") => schemas::transfer_status(),
        (_, "from" | "to") => schemas::time(),
        (_, "currency") => return Some(schemas::currency().into()),
        _ => return None,
    };
    Some(object.into())
}
