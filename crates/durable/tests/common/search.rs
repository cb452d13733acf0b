//! Searches for payloads that nothing names, as a hub makes them, with the writes of others in between.

use parole_durable::store::Mark;
use parole_durable::{Digest, Reader, Write};
use rand::RngExt as _;
use rand::rngs::StdRng;

/// A search for payloads that nothing names, between its writes.
pub struct Search {
    mark: Mark,
    digests: Vec<Digest>,
    /// Whether it has looked for the second time.
    again: bool,
}

/// Takes one step of some searches, up to three of which are under way side by side. The writes of a batch come
/// between any two looks.
pub fn step(random: &mut StdRng, searches: &mut Vec<Search>, batch: &mut Vec<Write>, reader: &dyn Reader) {
    let unnamed: Vec<Digest> = reader.unnamed().unwrap().into_iter().map(|(digest, _)| digest).collect();
    let place = random.random_range(0..=batch.len());
    if searches.len() < 3 && random.random_range(0..100) < 20 {
        let mark = Mark::generate();
        batch.insert(place, Write::Doom { digests: unnamed.clone(), mark });
        searches.push(Search { mark, digests: unnamed, again: false });
        return;
    }
    if searches.is_empty() || random.random_range(0..100) < 50 {
        return;
    }
    let at = random.random_range(0..searches.len());
    if searches[at].again {
        let Search { mark, digests, .. } = searches.remove(at);
        batch.insert(place, Write::Sweep { digests, mark });
    } else {
        searches[at].digests.retain(|digest| unnamed.contains(digest));
        searches[at].again = true;
    }
}
