//! Every property is checked, and refuses at least one mistake.

use lockstep_proofs::engine::profile::Profile;
use lockstep_proofs::registry;
use lockstep_proofs::report::evidence::{Evidence, page, rows, text};

fn all() -> Vec<Evidence> {
    rows(&registry::models(Profile::Quick), &registry::races())
}

#[test]
fn every_property_is_checked_and_refuses_a_mistake() {
    let unchecked = |row: &Evidence| row.models.is_empty() && row.scenarios.is_empty();
    let idle: Vec<_> = all().into_iter().filter(|row| unchecked(row) || row.refuses.is_empty()).collect();
    assert!(idle.is_empty(), "{idle:#?}");
}

#[test]
fn the_list_and_the_page_show_each_row() {
    let rows = all();
    let (text, page) = (text(&rows), page(&rows));
    for row in rows {
        assert!(text.contains(&format!("{}  {}\n", row.id, row.sentence)), "{text}");
        assert!(page.contains(&format!("<tr id=\"{}\">", row.id)), "{page}");
        for name in row.models.iter().chain(&row.scenarios).chain(&row.refuses) {
            assert!(text.contains(name) && page.contains(name), "{name}");
        }
    }
}
