"""The verbs: each joins a workspace to one stage. `vla.api` names them all."""
