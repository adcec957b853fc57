//! Whether somebody may decide on a proposal, and what that makes of it.

use crate::domain::{Client, Decision, Proposal, ProposalState, Timestamp};

/// What somebody says to a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Approve,
    /// No, and why.
    Reject(String),
}

/// Why they may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTheirs {
    /// They proposed it themselves.
    Own,
    /// Its time is over.
    Expired,
    /// It was decided otherwise, or by somebody else.
    Decided(ProposalState),
}

/// The proposal as the verdict leaves it; none where the same principal has said the same before.
/// `now` is database time. That they may decide at all is their role's matter.
pub fn decide(
    proposal: &Proposal,
    who: &Client,
    verdict: &Verdict,
    now: Timestamp,
) -> Result<Option<Proposal>, NotTheirs> {
    if *who == proposal.proposed_by {
        return Err(NotTheirs::Own);
    }
    let by_them = proposal.decision.as_ref().is_some_and(|decision| decision.by == *who);
    match (proposal.state_at(now), verdict) {
        (ProposalState::Pending, _) => {}
        (ProposalState::Expired, _) => return Err(NotTheirs::Expired),
        (
            ProposalState::Approved | ProposalState::Executed | ProposalState::Failed,
            Verdict::Approve,
        )
        | (ProposalState::Rejected, Verdict::Reject(_))
            if by_them =>
        {
            return Ok(None);
        }
        (state, _) => return Err(NotTheirs::Decided(state)),
    }
    let (state, reason) = match verdict {
        Verdict::Approve => (ProposalState::Approved, None),
        Verdict::Reject(reason) => (ProposalState::Rejected, Some(reason.clone())),
    };
    let decision = Some(Decision { by: who.clone(), at: now, reason });
    Ok(Some(Proposal { state, decision, ..proposal.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Operation, ProposalId, Shard};

    const BEGUN: Timestamp = Timestamp::from_micros(1_000_000);
    const SOON: Timestamp = Timestamp::from_micros(1_999_999);
    const OVER: Timestamp = Timestamp::from_micros(2_000_000);

    fn pending() -> Proposal {
        Proposal {
            id: ProposalId::mint(BEGUN, Shard(0), 1),
            operation: Operation::DiscardLetter("0.0.1".parse().unwrap()),
            before: "{}".to_owned(),
            proposed_by: client("olga"),
            reason: "because".to_owned(),
            key: "k".parse().unwrap(),
            created_at: BEGUN,
            expires_at: OVER,
            state: ProposalState::Pending,
            decision: None,
            ended: None,
        }
    }

    fn client(name: &str) -> Client {
        name.parse().unwrap()
    }

    fn no() -> Verdict {
        Verdict::Reject("no".to_owned())
    }

    #[test]
    fn another_than_the_proposer_decides_in_time() {
        for (verdict, state) in
            [(Verdict::Approve, ProposalState::Approved), (no(), ProposalState::Rejected)]
        {
            let decided = decide(&pending(), &client("anna"), &verdict, SOON).unwrap().unwrap();
            let decision = decided.decision.clone().unwrap();
            assert_eq!((decided.state, decision.by, decision.at), (state, client("anna"), SOON));
            assert_eq!(
                Proposal { state: ProposalState::Pending, decision: None, ..decided },
                pending()
            );
        }
    }

    #[test]
    fn nobody_decides_on_their_own_whatever_has_become_of_it() {
        for state in ProposalState::ALL {
            let proposal = Proposal { state, ..pending() };
            for verdict in [Verdict::Approve, no()] {
                let refused = decide(&proposal, &client("olga"), &verdict, SOON);
                assert_eq!(refused, Err(NotTheirs::Own), "{state:?}");
            }
        }
    }

    #[test]
    fn nobody_decides_once_its_time_is_over() {
        for verdict in [Verdict::Approve, no()] {
            let refused = decide(&pending(), &client("anna"), &verdict, OVER);
            assert_eq!(refused, Err(NotTheirs::Expired));
        }
    }

    #[test]
    fn a_decision_stands_also_after_its_time() {
        let anna = client("anna");
        let approved = decide(&pending(), &anna, &Verdict::Approve, SOON).unwrap().unwrap();
        for state in [ProposalState::Approved, ProposalState::Executed, ProposalState::Failed] {
            let proposal = Proposal { state, ..approved.clone() };
            assert_eq!(decide(&proposal, &anna, &Verdict::Approve, OVER), Ok(None));
            let refused = Err(NotTheirs::Decided(state));
            assert_eq!(decide(&proposal, &anna, &no(), OVER), refused);
            assert_eq!(decide(&proposal, &client("rita"), &Verdict::Approve, SOON), refused);
        }
        let rejected = decide(&pending(), &anna, &no(), SOON).unwrap().unwrap();
        let other = Verdict::Reject("another reason".to_owned());
        assert_eq!(decide(&rejected, &anna, &other, OVER), Ok(None));
        let refused = Err(NotTheirs::Decided(ProposalState::Rejected));
        assert_eq!(decide(&rejected, &anna, &Verdict::Approve, SOON), refused);
        assert_eq!(decide(&rejected, &client("rita"), &no(), SOON), refused);
    }
}
