"""The minds of aladdin-env: the Aladdin heuristic, the routers and autoscalers people run, and the planner."""
