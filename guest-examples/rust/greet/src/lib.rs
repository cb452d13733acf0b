//! Asks for a name and greets. The smallest guest that waits for a person.

use parole_guest::{Error, input, print};

fn run() -> Result<(), Error> {
    // This line may take weeks. The guest neither knows nor cares.
    let name = input("What is your name?")?;
    print(&format!("Hello, {name}!"));
    Ok(())
}

parole_guest::export!(run);
