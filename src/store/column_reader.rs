//! Typed access to the columns of a row, for both databases. Each database implements [`Columns`] for six plain kinds
//! of value, and [`ColumnReader`] reads the columns of a row one after the other. A value that does not fit is
//! [`StoreError::Corrupt`], which names the column but never the value.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, ValueRef as _};
use uuid::Uuid;

use super::{Result, StoreError};
use crate::model::{Digest, Invalid, Timestamp};

/// Reads a column as a plain value. `None` means NULL. A value of another type is an error.
pub(super) trait Columns {
    fn int(&self, index: usize) -> sqlx::Result<Option<i64>>;
    fn flag(&self, index: usize) -> sqlx::Result<Option<bool>>;
    fn text(&self, index: usize) -> sqlx::Result<Option<&str>>;
    fn bytes(&self, index: usize) -> sqlx::Result<Option<&[u8]>>;
    fn uuid(&self, index: usize) -> sqlx::Result<Option<Uuid>>;
    /// Returns a time in microseconds since 1970.
    fn micros(&self, index: usize) -> sqlx::Result<Option<i64>>;
}

impl Columns for SqliteRow {
    fn int(&self, index: usize) -> sqlx::Result<Option<i64>> {
        self.try_get(index)
    }

    fn flag(&self, index: usize) -> sqlx::Result<Option<bool>> {
        Ok(self.try_get::<Option<i64>, _>(index)?.map(|number| number != 0))
    }

    fn text(&self, index: usize) -> sqlx::Result<Option<&str>> {
        self.try_get(index)
    }

    fn bytes(&self, index: usize) -> sqlx::Result<Option<&[u8]>> {
        self.try_get(index)
    }

    fn uuid(&self, index: usize) -> sqlx::Result<Option<Uuid>> {
        self.try_get(index)
    }

    fn micros(&self, index: usize) -> sqlx::Result<Option<i64>> {
        self.try_get(index)
    }
}

impl Columns for PgRow {
    /// Reads `smallint`, `integer` and `bigint` alike.
    fn int(&self, index: usize) -> sqlx::Result<Option<i64>> {
        self.try_get_unchecked(index)
    }

    fn flag(&self, index: usize) -> sqlx::Result<Option<bool>> {
        self.try_get(index)
    }

    fn text(&self, index: usize) -> sqlx::Result<Option<&str>> {
        self.try_get(index)
    }

    fn bytes(&self, index: usize) -> sqlx::Result<Option<&[u8]>> {
        self.try_get(index)
    }

    fn uuid(&self, index: usize) -> sqlx::Result<Option<Uuid>> {
        self.try_get(index)
    }

    /// Decodes the value by hand. `'infinity'`, which only a shell can write, would overflow the type that sqlx decodes
    /// to, and sqlx would panic.
    fn micros(&self, index: usize) -> sqlx::Result<Option<i64>> {
        /// 2000-01-01T00:00:00Z, the epoch of Postgres timestamps, in microseconds since 1970.
        const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
        let value = self.try_get_raw(index)?;
        if value.is_null() {
            return Ok(None);
        }
        let bytes = value.as_bytes().map_err(sqlx::Error::Decode)?;
        let micros = bytes
            .try_into()
            .map(i64::from_be_bytes)
            .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Some(micros.saturating_add(POSTGRES_EPOCH)))
    }
}

/// Reads the columns of a row one after the other.
pub(super) struct ColumnReader<'r, R> {
    pub(super) row: &'r R,
    pub(super) next: usize,
    pub(super) table: &'static str,
}

impl<'r, R: Columns> ColumnReader<'r, R> {
    pub(super) const fn new(row: &'r R, table: &'static str) -> Self {
        Self { row, next: 0, table }
    }

    pub(super) const fn corrupt(&self, column: &'static str) -> StoreError {
        StoreError::Corrupt { table: self.table, column }
    }

    /// Reads the next column, which may be NULL, and converts its value with `make`.
    pub(super) fn maybe<T, U>(
        &mut self,
        column: &'static str,
        read: impl FnOnce(&'r R, usize) -> sqlx::Result<Option<T>>,
        make: impl FnOnce(T) -> Option<U>,
    ) -> Result<Option<U>> {
        let index = self.next;
        self.next += 1;
        let value = read(self.row, index).map_err(|_| self.corrupt(column))?;
        value.map(|value| make(value).ok_or_else(|| self.corrupt(column))).transpose()
    }

    pub(super) fn required<T>(&self, column: &'static str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.corrupt(column))
    }

    pub(super) fn int(&mut self, column: &'static str) -> Result<i64> {
        let value = self.maybe(column, R::int, Some)?;
        self.required(column, value)
    }

    pub(super) fn maybe_int(&mut self, column: &'static str) -> Result<Option<i64>> {
        self.maybe(column, R::int, Some)
    }

    pub(super) fn flag(&mut self, column: &'static str) -> Result<bool> {
        let value = self.maybe(column, R::flag, Some)?;
        self.required(column, value)
    }

    /// Reads the next column as an integer and converts it with `make`.
    pub(super) fn number<T>(
        &mut self,
        column: &'static str,
        make: impl FnOnce(i64) -> Option<T>,
    ) -> Result<T> {
        let value = self.maybe(column, R::int, make)?;
        self.required(column, value)
    }

    pub(super) fn maybe_text(&mut self, column: &'static str) -> Result<Option<String>> {
        self.maybe(column, R::text, |text| Some(text.to_owned()))
    }

    pub(super) fn text(&mut self, column: &'static str) -> Result<String> {
        let value = self.maybe_text(column)?;
        self.required(column, value)
    }

    pub(super) fn maybe_parsed<T>(
        &mut self,
        column: &'static str,
        parse: impl FnOnce(&str) -> std::result::Result<T, Invalid>,
    ) -> Result<Option<T>> {
        self.maybe(column, R::text, |text| parse(text).ok())
    }

    pub(super) fn parsed<T>(
        &mut self,
        column: &'static str,
        parse: impl FnOnce(&str) -> std::result::Result<T, Invalid>,
    ) -> Result<T> {
        let value = self.maybe_parsed(column, parse)?;
        self.required(column, value)
    }

    pub(super) fn maybe_digest(&mut self, column: &'static str) -> Result<Option<Digest>> {
        self.maybe(column, R::bytes, Digest::from_bytes)
    }

    pub(super) fn maybe_uuid(&mut self, column: &'static str) -> Result<Option<Uuid>> {
        self.maybe(column, R::uuid, Some)
    }

    pub(super) fn uuid(&mut self, column: &'static str) -> Result<Uuid> {
        let value = self.maybe_uuid(column)?;
        self.required(column, value)
    }

    pub(super) fn maybe_duration(&mut self, column: &'static str) -> Result<Option<Duration>> {
        self.maybe(column, R::int, |micros| u64::try_from(micros).ok().map(Duration::from_micros))
    }

    pub(super) fn maybe_time(&mut self, column: &'static str) -> Result<Option<Timestamp>> {
        self.maybe(column, R::micros, Timestamp::from_unix_micros)
    }

    pub(super) fn time(&mut self, column: &'static str) -> Result<Timestamp> {
        let value = self.maybe_time(column)?;
        self.required(column, value)
    }

    /// Reads the next `columns` columns as one row of a LEFT JOIN. The first of them must be a text that is never NULL
    /// in its table: if it is NULL, the joined row is missing and the columns are skipped.
    pub(super) fn joined<T>(
        &mut self,
        table: &'static str,
        columns: usize,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Option<T>> {
        let outer = std::mem::replace(&mut self.table, table);
        let first = self.row.text(self.next).map_err(|_| self.corrupt("id"))?;
        let value = if first.is_some() {
            Some(read(self)?)
        } else {
            self.next += columns;
            None
        };
        self.table = outer;
        Ok(value)
    }
}
