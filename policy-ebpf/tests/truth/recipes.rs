//! The table's policies that are written by hand: known recipes, and edges of the API.

use serde_json::Value;

/// One document, or a list of some, of `kubernetes/*.yaml`. The name of the first says what it is about.
pub(crate) struct Recipe {
    pub(crate) name: String,
    /// As it is written.
    pub(crate) text: String,
    pub(crate) policies: Vec<Value>,
}

const FILES: [&str; 6] = [
    include_str!("kubernetes/types.yaml"),
    include_str!("kubernetes/peers.yaml"),
    include_str!("kubernetes/selectors.yaml"),
    include_str!("kubernetes/ports.yaml"),
    include_str!("kubernetes/blocks.yaml"),
    include_str!("kubernetes/together.yaml"),
];

pub(crate) fn recipes() -> Vec<Recipe> {
    let documents = FILES.iter().flat_map(|file| file.split("\n---\n"));
    let recipes: Vec<_> = documents.map(recipe).collect();
    // Neither may get lost unseen.
    let policies: usize = recipes.iter().map(|r| r.policies.len()).sum();
    let written: usize = FILES
        .iter()
        .map(|f| f.matches("kind: NetworkPolicy").count())
        .sum();
    assert_eq!(policies, written);
    assert!(policies >= 100, "{policies}");
    recipes
}

fn recipe(text: &str) -> Recipe {
    let value: Value = serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let policies = match value["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![value],
    };
    let name = policies[0]["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    Recipe {
        name,
        text: text.to_owned(),
        policies,
    }
}
