//! Whom a connection serves.

use std::sync::Arc;

use xferd_engine::{Failure, Reach};
use xferd_wire::ErrorCode;

use super::client::CLOSED;
use super::lease::Lease;
use super::line::{Line, Standing};
use super::pool::Pool;

/// The place of a connection: one of a pool, or somebody's who leases it.
///
/// Whoever is served hears of the end of the connection once, at the latest when this is dropped.
pub(crate) struct Berth(Option<Place>);

enum Place {
    Pooled(Arc<Pool>, usize),
    Leased(Arc<Lease>),
}

impl Berth {
    pub(crate) fn pooled(pool: Arc<Pool>, index: usize) -> Self {
        Self(Some(Place::Pooled(pool, index)))
    }

    pub(crate) fn leased(lease: Arc<Lease>) -> Self {
        Self(Some(Place::Leased(lease)))
    }

    pub(crate) fn line(&self) -> Option<&Line> {
        match self.0.as_ref()? {
            Place::Pooled(pool, index) => pool.line(*index),
            Place::Leased(lease) => Some(&lease.line),
        }
    }

    pub(crate) fn lease(&self) -> Option<&Lease> {
        match self.0.as_ref()? {
            Place::Pooled(..) => None,
            Place::Leased(lease) => Some(lease),
        }
    }

    /// Whether whoever is served has left.
    pub(crate) fn is_over(&self) -> bool {
        match &self.0 {
            None => true,
            Some(Place::Leased(lease)) => lease.is_over(),
            Some(Place::Pooled(pool, index)) => {
                pool.line(*index).is_none_or(|line| line.standing() == Standing::Closed)
            }
        }
    }

    /// The connection is open. False: it is not wanted any more.
    pub(crate) fn open(&self, reach: Option<Reach>) -> bool {
        match &self.0 {
            None => false,
            Some(Place::Leased(lease)) => lease.open(reach),
            Some(Place::Pooled(pool, index)) => {
                pool.opened();
                pool.line(*index).is_some_and(|line| line.open(reach))
            }
        }
    }

    /// The connection is gone, or was not to be had.
    pub(crate) fn lose(mut self, failure: &Failure) {
        self.tell(failure);
    }

    fn tell(&mut self, failure: &Failure) {
        match self.0.take() {
            None => {}
            Some(Place::Leased(lease)) => lease.lose(failure),
            Some(Place::Pooled(pool, index)) => pool.lose(index, failure),
        }
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        self.tell(&Failure::new(ErrorCode::Aborted, CLOSED));
    }
}
