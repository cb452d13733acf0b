//! Tidies up two customers of a CRM that its host knows nothing of: somebody defines it in WIT, and workers answer. It has
//! exports beside `run`:
//!
//!     parole run crm.wasm --policy examples/crm/policy.toml --invoke 'name-of("1001")'

use parole_guest::print;

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: "../../../examples/crm",
        world: "assistant",
        generate_all,
    });
}

#[allow(missing_docs, reason = "generated")]
mod exports {
    // Only what comes on top: imports are those of the bindings, `run` is that of parole-guest.
    wit_bindgen::generate!({
        inline: "
            package example:crm;

            world crm {
                /// The name of a customer.
                export name-of: func(id: string) -> result<string, string>;
                /// Deletes a customer.
                export remove: func(id: string) -> result<_, string>;
            }
        ",
    });
}

struct Crm;

impl exports::Guest for Crm {
    fn name_of(id: String) -> Result<String, String> {
        customers::lookup(&id).map(|customer| customer.name).map_err(text)
    }

    fn remove(id: String) -> Result<(), String> {
        customers::delete(&id).map_err(text)
    }
}

exports::export!(Crm with_types_in exports);

use bindings::acme::crm::customers::{self, Customer, Error};

fn run() -> Result<(), String> {
    let customer = customers::lookup("1001").map_err(text)?;
    print(&format!("{} has {} orders and the address {}", customer.name, customer.orders, address(&customer)));
    match customers::update(&Customer { email: Some("ada@example.com".into()), ..customer }) {
        Ok(()) => print("the address is ada@example.com now"),
        Err(error) => print(&format!("the address stays: {}", text(error))),
    }
    match customers::delete("1002") {
        Ok(()) => print("1002 is deleted"),
        Err(error) => print(&format!("1002 stays: {}", text(error))),
    }
    match customers::lookup("1002") {
        Ok(customer) => print(&format!("1002 is {}", customer.name)),
        Err(error) => print(&format!("1002: {}", text(error))),
    }
    Ok(())
}

fn address(customer: &Customer) -> &str {
    customer.email.as_deref().unwrap_or("(none)")
}

fn text(error: Error) -> String {
    match error {
        Error::Unknown(id) => format!("there is no customer {id}"),
        Error::Denied(why) => format!("denied: {why}"),
        Error::Failed(why) => format!("failed: {why}"),
    }
}

parole_guest::export!(run);
