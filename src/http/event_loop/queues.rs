//! Queues between the event loop and the worker pool.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::handle::BusyConnection;
use super::pending_request::PendingRequest;
use super::responder::Responder;
use super::unsent_response::StreamedBody;
use crate::http::query_queue::{QueryQueue, TaskKind};

/// A complete request for the worker pool.
pub(in crate::http) struct Task {
    pub(in crate::http) pending: Box<PendingRequest>,
    pub(in crate::http) responder: Responder,
}

/// The next part of a response for the worker pool.
pub(in crate::http) struct PartTask {
    pub(in crate::http) body: Box<StreamedBody>,
    pub(in crate::http) connection: BusyConnection,
    pub(in crate::http) keep_alive: bool,
}

/// A task of the workers that query the database.
pub(in crate::http) enum QueryTask {
    Request(Task),
    Part(PartTask),
}

/// The queues of the worker pool. Each has room for one task per connection, so neither is ever full.
pub(in crate::http) struct Queues {
    /// Requests that take little time: telemetry, which is parsed and passed on, and open routes.
    pub(in crate::http) ingest: Sender<Task>,
    /// Requests that query the database, and further parts of responses.
    pub(in crate::http) query: Arc<QueryQueue<QueryTask>>,
}

impl Queues {
    /// Passes a request to its queue. If the workers have stopped, the responder is dropped, which answers 500.
    pub(in crate::http) fn push_request(&self, task: Task) {
        let is_rejected = if task.pending.admitted.reads_database {
            self.query.push(task.responder.client, TaskKind::Request, QueryTask::Request(task)).is_some()
        } else {
            self.ingest.try_send(task).is_err()
        };
        if is_rejected {
            log::error!("http: dispatch failed: the worker pool has stopped; the client gets a 500");
        }
    }

    /// Passes the production of a part to the query queue. If the workers have stopped, resets the connection.
    pub(in crate::http) fn push_part(&self, task: PartTask) {
        let rejected = self.query.push(task.body.client, TaskKind::Part, QueryTask::Part(task));
        if let Some(QueryTask::Part(task)) = rejected {
            log::error!("http: dispatch failed: the worker pool has stopped; the connection is reset");
            task.connection.reset();
        }
    }
}

/// Ends the workers of the query queue; those of the other one end with its sender.
impl Drop for Queues {
    fn drop(&mut self) {
        self.query.close();
    }
}
