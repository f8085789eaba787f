//! The chain, over random changes to it.

use super::*;
use proptest::prelude::*;

fn entry(what: &str, who: Who) -> Entry {
    Actor::local(who).did(what, Timestamp::UNIX_EPOCH).of("lock src/**").with(&serde_json::json!({"a": 1}))
}

fn chain(count: usize) -> Vec<(i64, Entry, Digest)> {
    let mut chain = Chain::default();
    (0..count)
        .map(|n| {
            let entry = entry(&format!("what-{n}"), Who::User { uid: 1000, name: None, pid: 7 });
            let at = chain.add(&entry);
            (at.seq, entry, at.hash)
        })
        .collect()
}

fn check(rows: &[(i64, Entry, Digest)]) -> Result<Chain, Broken> {
    let mut chain = Chain::default();
    rows.iter().try_for_each(|(seq, entry, hash)| chain.follow(*seq, entry, *hash))?;
    Ok(chain)
}

#[test]
fn who_is_written_as_it_is_asked_for() {
    let name: InstanceName = "a-b".parse().expect("valid");
    let agent = Who::Agent { instance: name.clone(), task: Some(TaskId(7)), uid: 1, pid: 2 };
    let row = Actor::local(agent).did("x", Timestamp::UNIX_EPOCH).of_instance(Some(&name)).of_task(Some(TaskId(9)));
    assert_eq!((row.who.as_str(), row.uid, row.pid, row.acting, row.origin.as_str(), row.task), ("instance:a-b", Some(1), Some(2), Some(7), "unix", Some(9)));
    let words =
        [Who::User { uid: 7, name: Some("ann".into()), pid: 1 }, Who::User { uid: 7, name: None, pid: 1 }, Who::Runner(name)].map(|who| who.to_string());
    assert_eq!(words, ["user:ann", "user:7", "runner:a-b"]);
}

/// Rows that were hashed by an older clauded must fit for ever: these numbers may not change.
#[test]
fn the_canonical_form_stays() {
    let mut chain = Chain::default();
    let row = entry("x", Who::Token);
    assert_eq!(
        serde_json::to_string(&(1, &row)).ok().as_deref(),
        Some(
            r#"[1,{"at":0,"who":"token","uid":null,"pid":null,"acting":null,"origin":"unix","what":"x","instance":null,"task":null,"subject":"lock src/**","details":"{\"a\":1}"}]"#
        )
    );
    assert_eq!(chain.add(&row).hash.to_string(), "78f6431d6a90023e0b64976bcda37119ff86aaa3a2eb80e01ae282204f3b40b3");
}

#[test]
fn a_mismatch_that_was_told_of_stays_one() {
    let mut end = Chain::default();
    let row = entry(MISMATCH, Who::Clauded);
    let at = end.add(&row);
    assert_eq!(Chain::default().follow(at.seq, &row, at.hash), Err(Broken::Mismatch(1)));
}

proptest! {
    #[test]
    fn whatever_is_done_to_a_chain_shows_at_the_first_row_that_does_not_fit(count in 2usize..30, at in 0usize..30, how in 0usize..7) {
        let mut rows = chain(count);
        prop_assert_eq!(check(&rows).map(|end| end.seq), Ok(i64::try_from(count).expect("small")));
        let at = at % (count - 1);
        let number = rows[at].0;
        match how {
            0 => { rows.remove(at); }
            1 => rows.swap(at, at + 1),
            2 => rows[at].1.what.push('!'),
            3 => rows[at].1.uid = None,
            4 => rows[at].1.details = "{}".to_owned(),
            5 => { let row = rows[at].clone(); rows.insert(at, row); }
            _ => rows[at].2 = Digest::default(),
        }
        let broken = check(&rows).expect_err("it must show");
        let row = match broken { Broken::Changed(row) => row, Broken::Missing { expected, .. } => expected, other => panic!("{other:?}") };
        prop_assert_eq!(row, if how == 5 { number + 1 } else { number });
    }

    #[test]
    fn a_hash_is_read_as_it_is_written_and_nothing_else_is_one(text in "\\PC{0,70}") {
        prop_assert!(text.parse::<Digest>().is_err() || text.parse::<Digest>().map(|d| d.to_string()) == Ok(text.to_ascii_lowercase()));
    }
}
