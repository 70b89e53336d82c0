//! What lies in the database: one table of entries and one of marks, read and changed inside redb's transactions.
//!
//! Revisions come from one sequence that rises with each batch that writes, so that a key deleted and made again never
//! has a revision that it had before.

use std::ops::Bound;

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::fault::Fault;
use crate::storage::{Batch, Entry, StoreError};

/// Key to revision and bytes.
const ENTRIES: TableDefinition<'static, &str, (u64, &[u8])> = TableDefinition::new("entries");
/// Marks of the file as a whole.
const MARKS: TableDefinition<'static, &str, u64> = TableDefinition::new("marks");
/// The mark by which a file of ours is known, and its version.
const FORMAT: &str = "format";
/// The mark that holds the last revision given.
const SEQUENCE: &str = "sequence";
/// The format that this program writes and the newest that it reads.
pub(super) const CURRENT_FORMAT: u64 = 1;

/// Answers to the batches of a group, in order: a failed compare fails only its own batch.
pub(super) type Answers = Vec<Result<(), StoreError>>;

/// A group applied in a transaction that is not committed yet.
pub(super) struct Applied {
    /// What each batch is answered once the transaction is committed.
    pub(super) answers: Answers,
    /// The last revision given.
    pub(super) sequence: u64,
    /// How many batches have something to write.
    pub(super) writing: u64,
}

/// Makes the tables and marks of a new file.
pub(super) fn initialise(database: &Database) -> Result<(), Fault> {
    let transaction = database.begin_write()?;
    transaction.open_table(ENTRIES)?;
    {
        let mut marks = transaction.open_table(MARKS)?;
        marks.insert(FORMAT, CURRENT_FORMAT)?;
        marks.insert(SEQUENCE, 0)?;
    }
    Ok(transaction.commit()?)
}

/// Checks that the file is ours and of a known format, and gives its sequence.
pub(super) fn recognise(database: &Database) -> Result<u64, Fault> {
    let transaction = database.begin_read()?;
    let marks = transaction.open_table(MARKS)?;
    let mark = |name: &str| -> Result<u64, Fault> {
        let value = marks.get(name)?.map(|value| value.value());
        value.ok_or_else(|| Fault::Damaged(format!("it has no mark '{name}'")))
    };
    match mark(FORMAT)? {
        CURRENT_FORMAT => {}
        0 => return Err(Fault::Damaged("its format is 0".to_owned())),
        newer => return Err(Fault::Newer(newer)),
    }
    transaction.open_table(ENTRIES)?;
    mark(SEQUENCE)
}

/// The entry of `key`.
pub(super) fn get(database: &Database, key: &str) -> Result<Option<Entry>, Fault> {
    let transaction: ReadTransaction = database.begin_read()?;
    let table = transaction.open_table(ENTRIES)?;
    Ok(table.get(key)?.map(|found| {
        let (revision, value) = found.value();
        Entry { key: key.to_owned(), value: value.to_vec(), revision }
    }))
}

/// Up to `limit` entries under `prefix` that come after `after`.
pub(super) fn scan(database: &Database, prefix: &str, after: &str, limit: usize) -> Result<Vec<Entry>, Fault> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(ENTRIES)?;
    let from = if after.is_empty() || after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
    let mut entries = Vec::new();
    for item in table.range::<&str>((from, Bound::Unbounded))? {
        let (key, found) = item?;
        if entries.len() == limit || !key.value().starts_with(prefix) {
            break;
        }
        let (revision, value) = found.value();
        entries.push(Entry { key: key.value().to_owned(), value: value.to_vec(), revision });
    }
    Ok(entries)
}

/// Applies the batches one after the other, each compared with the state that those before it left.
pub(super) fn apply<'a>(
    transaction: &WriteTransaction,
    batches: impl IntoIterator<Item = &'a Batch>,
    sequence: u64,
) -> Result<Applied, Fault> {
    let mut applied = Applied { answers: Vec::new(), sequence, writing: 0 };
    let mut table = transaction.open_table(ENTRIES)?;
    for batch in batches {
        if let Some(moved) = moved(&table, batch)? {
            applied.answers.push(Err(moved));
            continue;
        }
        if !batch.put.is_empty() || !batch.delete.is_empty() {
            applied.sequence += 1;
            applied.writing += 1;
            write(&mut table, batch, applied.sequence)?;
        }
        applied.answers.push(Ok(()));
    }
    if applied.writing > 0 {
        transaction.open_table(MARKS)?.insert(SEQUENCE, applied.sequence)?;
    }
    Ok(applied)
}

/// The first compare that does not hold.
fn moved(table: &Table<'_, &str, (u64, &[u8])>, batch: &Batch) -> Result<Option<StoreError>, Fault> {
    for (key, expected) in &batch.compare {
        let found = table.get(key.as_str())?.map_or(0, |found| found.value().0);
        if found != *expected {
            return Ok(Some(StoreError::RevisionMoved { key: key.clone(), expected: *expected, found }));
        }
    }
    Ok(None)
}

fn write(table: &mut Table<'_, &str, (u64, &[u8])>, batch: &Batch, revision: u64) -> Result<(), Fault> {
    for (key, value) in &batch.put {
        table.insert(key.as_str(), (revision, value.as_slice()))?;
    }
    for key in &batch.delete {
        table.remove(key.as_str())?;
    }
    Ok(())
}
