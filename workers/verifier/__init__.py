"""The verifier service: consume drafts, run one forward for all that are ready, commit verdicts, acknowledge."""
