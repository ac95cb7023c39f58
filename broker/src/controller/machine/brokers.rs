//! How brokers come, are replaced, and go.

use std::collections::BTreeSet;

use highwater_proto::BrokerId;

use super::{ControllerMachine, Decided, propose, staying};
use crate::controller::command::{Decommission, Registration, Response};
use crate::controller::error::Error;
use crate::controller::event::Event;
use crate::controller::image::{Broker, BrokerState};
use crate::raft::machine::Decision;

impl ControllerMachine {
    pub(super) fn register_broker(&self, registration: Registration) -> Decided {
        let view = self.view();
        // The founder comes first: it holds the replica that this group began with.
        if view.brokers().len() == 0 {
            return Err(Error::NotFounded);
        }
        let id = registration.id;
        if view.is_retired(registration.incarnation_id) {
            return Err(Error::DirectoryRetired { id });
        }
        let known = view.broker(id);
        match known {
            None => {}
            Some(known) if known.incarnation_id == registration.incarnation_id => {
                return Ok(self.register_again(registration, known));
            }
            Some(known) if known.state == BrokerState::Replaceable => {}
            Some(known) => {
                return Err(Error::BrokerIdTaken {
                    id,
                    registered: known.incarnation_id,
                });
            }
        }
        let controller_replica = view.next.replica;
        let broker = registration.with_replica(controller_replica);
        let response = Response::Registered { controller_replica };
        Ok(propose(&[Event::BrokerRegistered(broker)], response))
    }

    /// A start of a broker with the data directory that it is known by. What is said twice by the same run changes nothing more; what
    /// an earlier run said, and came late, changes nothing at all.
    fn register_again(&self, registration: Registration, known: &Broker) -> Decision<Response> {
        let start = registration.start;
        let is_repeated = start.run_id == known.start.run_id;
        if !is_repeated && start.number != 0 && start.number <= known.start.number {
            let start_number = known.start.number;
            return self.unchanged(Response::Superseded { start_number });
        }
        let lost = registration.lost_controller_replica;
        let needs_replica =
            lost.is_some_and(|lost| !is_repeated || lost == known.controller_replica);
        let controller_replica = if needs_replica {
            self.view().next.replica
        } else {
            known.controller_replica
        };
        let is_set_back = registration.is_set_back && !is_repeated;
        let mut broker = registration.with_replica(controller_replica);
        broker.start.number = start.number.max(known.start.number);
        broker.state = match known.state {
            // Nothing was lost.
            BrokerState::Replaceable => BrokerState::Active,
            state => state,
        };
        let response = Response::Registered { controller_replica };
        if *known == broker && !is_set_back {
            return self.unchanged(response);
        }
        let id = broker.id;
        let mut events = vec![Event::BrokerRegistered(broker)];
        if is_set_back {
            events.push(Event::BrokerSetBack { broker: id });
        }
        propose(&events, response)
    }

    pub(super) fn decommission(&self, command: &Decommission) -> Decided {
        let (view, id) = (self.view(), command.broker);
        let broker = view.broker(id).ok_or(Error::UnknownBroker { id })?;
        self.check_drain(id)?;
        let drained = BTreeSet::from([id]);
        let moves = self.due_moves(&command.avoid, &drained, usize::MAX);
        let planned = moves.into_iter().map(|due| due.planned);
        let planned = planned
            .filter(|planned| planned.from.contains(&id))
            .collect();
        let response = Response::Moves(planned);
        if command.validate_only || broker.state == BrokerState::Draining {
            return Ok(self.unchanged(response));
        }
        let draining = Event::BrokerStateSet {
            broker: id,
            state: BrokerState::Draining,
        };
        Ok(propose(&[draining], response))
    }

    /// Whether the other brokers that stay are enough for everything that is on `broker`.
    fn check_drain(&self, id: BrokerId) -> Result<(), Error> {
        let view = self.view();
        let left = staying(view).filter(|other| other.id != id).count();
        let cannot = |problem| Err(Error::CannotDrain { id, problem });
        if left == 0 {
            return cannot("it is the only one".to_owned());
        }
        // Those of the brokers themselves have fewer replicas where there are fewer brokers.
        for topic in view.client_topics() {
            for partition in &topic.partitions {
                let replicas = partition.coming();
                let is_on_it = replicas.iter().any(|replica| replica.broker == id);
                if is_on_it && replicas.len() > left {
                    return cannot(format!(
                        "partitions of topic `{}` have {} replicas, and {left} other brokers would be left. Add brokers, or \
                         lower its number of replicas: highwater topic alter {} -r {left}",
                        topic.name,
                        replicas.len(),
                        topic.name,
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) fn cancel_decommission(&self, id: BrokerId) -> Decided {
        let view = self.view();
        let broker = view.broker(id).ok_or(Error::UnknownBroker { id })?;
        if broker.state != BrokerState::Draining {
            return Err(Error::NotDraining { id });
        }
        let mut events = vec![Event::BrokerStateSet {
            broker: id,
            state: BrokerState::Active,
        }];
        let mut planned = Vec::new();
        for (topic, index, partition) in view.reassigned() {
            let leaves = partition.removing().any(|replica| replica.broker == id);
            let is_on = partition.reassignment.as_ref();
            if leaves && is_on.is_some_and(|moving| !moving.is_cancelled) {
                let (event, undone) = super::cancelling::cancellation(topic, index, partition);
                events.push(event);
                planned.push(undone);
            }
        }
        Ok(propose(&events, Response::Moves(planned)))
    }

    pub(super) fn allow_replacement(
        &self,
        id: BrokerId,
        avoid: &BTreeSet<BrokerId>,
        validate_only: bool,
    ) -> Decided {
        let broker = self.view().broker(id).ok_or(Error::UnknownBroker { id })?;
        if !avoid.contains(&id) {
            return Err(Error::BrokerIsUp { id });
        }
        if validate_only || broker.state == BrokerState::Replaceable {
            return Ok(self.unchanged(Response::Done));
        }
        let replaceable = Event::BrokerStateSet {
            broker: id,
            state: BrokerState::Replaceable,
        };
        Ok(propose(&[replaceable], Response::Done))
    }

    pub(super) fn remove_broker(&self, id: BrokerId) -> Decided {
        let view = self.view();
        let broker = view.broker(id).ok_or(Error::UnknownBroker { id })?;
        if broker.state != BrokerState::Draining {
            return Err(Error::NotDraining { id });
        }
        if view.holds_replicas(id) {
            return Err(Error::StillHolds { id });
        }
        Ok(propose(
            &[Event::BrokerRemoved { broker: id }],
            Response::Done,
        ))
    }
}
