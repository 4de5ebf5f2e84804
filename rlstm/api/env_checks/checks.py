"""What a check of an env looks at, one function a check; each returns what it found.

Levels: ``ok``; ``hint``, good to know; ``remark``, trainable but something deserves a look; ``unfit``, training would
fail. Play is random, over the envs that ``rlstm train`` would make; a short training shows what can be reached without
memory.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import re
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

from rlstm.api.env_checks.findings import Finding, Report, unfit
from rlstm.api.env_checks.infos import check_infos
from rlstm.api.env_checks.play import (
    TRAIN_SECONDS,
    Play,
    first_difference,
    outside,
    play_on,
    reset,
    train_without_memory,
)
from rlstm.core.errors import EnvironmentFailure, NonFiniteError, UnsupportedSpaceError
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.core.seeding import integer_seeds
from rlstm.policies.config import PolicyConfig
from rlstm.policies.policy import RecurrentPolicy
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make, make_single
from rlstm.vector.references import REFERENCES, references
from rlstm.vector.sub_env import supports_new_task

Measured = dict[str, Any]
_PLAY_STEPS, _PLAY_SECONDS = 2000, 3.0  # In each env; whichever comes first.
_REPEATED_STEPS = 100
_MEASURED = (
    *("vectorization", "steps_per_second", "training_steps_per_second"),
    *("mean_episode_length", "max_episode_length", "exact_resume", "trials"),
    *("random_return", "memoryless_estimate", *REFERENCES),
)
_FIX = "Fix what check_env of Gymnasium complains about."
_SLOW_STEP_SECONDS = 1e-3  # From here on, workers are worth their communication.


def find(spec: EnvSpec, config: EnvConfig, train_steps: int, report: Report) -> tuple[list[Finding], Measured]:
    """Return the findings in the order in which they were made, and what was measured, for programs.

    ``train_steps`` are environment steps of the short training without memory; 0 leaves it out.
    """
    measured: Measured = dict.fromkeys(_MEASURED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The first check collects those that matter.
        try:
            env = make_single(spec, config, disable_env_checker=True)
        except Exception as error:
            return [unfit("making", f"It can't be made: {_say(error)}")], measured
        findings: list[Finding] = []
        with _closing(env, findings):
            report("gymnasium, dtypes, masks, infos")
            findings += [_gymnasium(env, bool(config.env_wrappers)), _dtypes(env), *check_infos(env)]
            if findings[0].level == "remark" and any(
                one.topic == "masks" and "seen, allows" in one.text for one in findings
            ):
                text = f"{findings[0].text} (it samples actions without the mask)"
                findings[0] = dataclasses.replace(findings[0], level="hint", text=text, advice="")
            measured["trials"] = supports_new_task(env)
            if not config.env_wrappers:  # The references are those of the whole task.
                measured |= references(env.unwrapped)
        findings.append(_trials(measured["trials"]))
        report("envs")
        try:
            envs = make(spec, config, MemoryConfig())
        except EnvironmentFailure as error:
            return [*findings, unfit("envs", str(error))], measured
        with contextlib.closing(envs):
            measured["vectorization"] = envs.kind
            text = f"auto takes {envs.kind}: {envs.description}"
            findings.append(Finding("envs", "ok" if envs.kind == "native" else "hint", text))
            findings += _of_play(spec, config, envs, measured, report)
        if train_steps and all(one.level != "unfit" for one in findings):
            report(f"learning: {train_steps:,} steps without memory, {TRAIN_SECONDS:g} s at most")
            findings.append(_without_memory(spec, config, train_steps, measured))
    return findings, measured


@contextlib.contextmanager
def _closing(env: gym.Env[Any, Any], findings: list[Finding]) -> Iterator[None]:
    """Close an env at the end, and tell if that fails."""
    try:
        yield
    finally:
        try:
            env.close()
        except Exception as error:
            advice = "A run goes on and keeps its result, but what the env holds may stay open."
            findings.append(Finding("closing", "remark", f"close fails: {_say(error)}", advice))


def _of_play(spec: EnvSpec, config: EnvConfig, envs: VectorEnvs, measured: Measured, report: Report) -> list[Finding]:
    """Make the checks that need a policy and play."""
    try:
        parts = PolicyConfig(), MemoryConfig(), InputsConfig()
        policy = RecurrentPolicy(envs.observation_space, envs.action_space, *parts)
    except UnsupportedSpaceError as error:
        return [unfit("spaces", str(error), "Leave the part out, or turn it into a supported one, in a wrapper.")]
    images = "".join(f"; image {one}" for one in policy.actor.encoder.images)
    text = f"observations {envs.observation_space}; actions {envs.action_space}{images}"
    advice = _without_bounds(envs.action_space)
    findings = [Finding("spaces", "hint" if advice else "ok", text, advice)]
    try:
        report(f"episodes, speed: random play, {_PLAY_SECONDS:g} s at most")
        play = play_on(envs, policy, reset(envs), _PLAY_STEPS, seconds=_PLAY_SECONDS)
        measured["random_return"] = float(np.mean(play.returns)) if play.returns else None
        findings += [_episodes(play, spec, measured), _speed(play, envs, measured)]
        report("bounds, determinism, autoreset")
        findings += _repeated(spec, config, envs.kind, policy)
        report("resume")
        findings.append(_resume(envs, policy, measured))
    except EnvironmentFailure as error:
        findings.append(unfit("play", f"It breaks under random play: {error}"))
    return findings


def _without_bounds(space: spaces.Space[Any]) -> str:
    """Return what becomes of actions with one bound, or with none."""
    if not isinstance(space, spaces.Box) or (np.isfinite(space.low) & np.isfinite(space.high)).all():
        return ""
    unit = "Actions without two finite bounds begin as N(0, 1) in the env's own units"
    return f"{unit}, a bound that stands alone a deviation away: give finite bounds if others are meant."


def _gymnasium(env: gym.Env[Any, Any], is_wrapped: bool) -> Finding:
    """Run Gymnasium's own checker on the unwrapped env; what it says of one in wrappers is no more than a hint."""
    failure = None
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        try:
            check_env(env.unwrapped, skip_render_check=True)
        except Exception as error:
            failure = _say(error)
    complaints = list(dict.fromkeys(_clean(str(one.message)) for one in caught))
    complaints = [one for one in complaints if "symmetric and normalized" not in one]  # The policy's units are.
    if failure is not None and is_wrapped:
        return Finding("gymnasium", "hint", f"check_env fails without the wrappers: {_clean(failure)}")
    if failure is not None:
        return Finding("gymnasium", "remark", f"check_env fails: {_clean(failure)}", _FIX)
    if complaints:
        return Finding("gymnasium", "hint", f"check_env warns: {' | '.join(complaints)}")
    return Finding("gymnasium", "ok", "check_env has no complaints")


def _dtypes(env: gym.Env[Any, Any]) -> Finding:
    """Compare the types of the first observations with those of their space."""
    try:
        observation, _ = env.reset(seed=0)
        differences = _differences(observation, env.observation_space, "the first observation")
    except Exception as error:
        return unfit("dtypes", f"The first reset fails: {_say(error)}")
    env.action_space.seed(0)
    with contextlib.suppress(Exception):  # The play reports a step that fails, and it knows masks.
        observation = env.step(env.action_space.sample())[0]
        differences += _differences(observation, env.observation_space, "the second observation")
    if differences:
        advice = "Return observations in the type of their space: they are converted at every step."
        return Finding("dtypes", "remark", "; ".join(differences), advice)
    return Finding("dtypes", "ok", "observations have the types of their space")


def _differences(observation: Any, space: spaces.Space[Any], place: str) -> list[str]:
    if isinstance(space, spaces.Dict):
        parts = [(observation[key], part, f"{place}['{key}']") for key, part in space.spaces.items()]
    elif isinstance(space, spaces.Tuple):
        parts = [(observation[i], part, f"{place}[{i}]") for i, part in enumerate(space.spaces)]
    else:
        found = np.asarray(observation).dtype
        # A plain integer is a fine value of a Discrete space of any integer type.
        same = found == space.dtype or (found.kind in "iu" and space.shape == ())
        return [] if same or found.kind not in "biuf" else [f"{place} is {found}, its space {space.dtype}"]
    return [difference for part in parts for difference in _differences(*part)]


def _trials(supported: bool) -> Finding:
    if supported:
        return Finding("trials", "ok", "supported: resets can keep the task (--memory.episodes-per-trial)")
    return Finding("trials", "hint", "not supported: metadata['supports_new_task'] is not declared")


def _episodes(play: Play, spec: EnvSpec, measured: Measured) -> Finding:
    """Compare the lengths of episodes with how far gradients reach by default."""
    from rlstm.agents import load_agent_config

    if not play.lengths:
        text = f"none ended within {play.steps} steps: returns are known at an episode's end only, and memory is reset"
        advice = "Give the env an end: --env-kwargs max_episode_steps=1000, or register it with one."
        return Finding("episodes", "remark", f"{text} there", advice)
    mean, longest = float(np.mean(play.lengths)), max(play.lengths)
    measured["mean_episode_length"], measured["max_episode_length"] = mean, longest
    reach = int(load_agent_config("ppo")().num_steps)
    limit = "" if spec.max_episode_steps is None else f" (max_episode_steps {spec.max_episode_steps})"
    parts = [
        f"{mean:.1f} steps on average, {longest} at most, under random play",
        f"truncation {'seen' if play.truncations else 'not seen'}{limit}",
        f"info['is_success'] {'given' if play.successes_known else 'not given'}",
    ]
    if longest > reach:
        parts.append(f"gradients reach {reach} steps: raise --num-steps if something must be remembered for longer")
    return Finding("episodes", "hint" if longest > reach else "ok", "; ".join(parts))


def _speed(play: Play, envs: VectorEnvs, measured: Measured) -> Finding:
    rate = play.steps * envs.num_envs / play.seconds
    measured["steps_per_second"] = rate
    text = f"{rate:,.0f} steps/s with {envs.num_envs} envs, without learning"
    if envs.kind == "sync" and 1 / rate > _SLOW_STEP_SECONDS:
        return Finding("speed", "remark", text, f"A step takes {1000 / rate:.1f} ms: try --vectorization async.")
    return Finding("speed", "ok", text)


def _resume(envs: VectorEnvs, policy: RecurrentPolicy, measured: Measured) -> Finding:
    """Take the state, play on, go back, and play the same again."""
    measured["exact_resume"] = False
    if envs.state_fault is not None:
        return Finding("resume", "hint", f"not exact: {envs.state_fault}; a resume begins new episodes")
    start = play_on(envs, policy, reset(envs), _REPEATED_STEPS, seconds=_PLAY_SECONDS, record=True).trace[-1]
    try:
        state = copy.deepcopy(envs.get_state())  # A checkpoint holds a copy too.
        if state is None:
            return Finding("resume", "hint", "not exact: without get_state and set_state a resume begins new episodes")
        first = play_on(envs, policy, start, _REPEATED_STEPS, seconds=_PLAY_SECONDS, record=True)
        envs.set_state(state, integer_seeds(1, "check", envs.num_envs))
        second = play_on(envs, policy, start, _REPEATED_STEPS, seconds=_PLAY_SECONDS, record=True)
    except Exception as error:
        advice = "Don't rely on 'rlstm resume' with this env."
        return Finding("resume", "remark", f"get_state and set_state fail: {_say(error)}", advice)
    step = first_difference(first, second)
    if step is not None:
        text = f"not exact: after set_state, step {step} comes out differently"
        return Finding("resume", "remark", text, "Let get_state return all that the env's future depends on.")
    measured["exact_resume"] = True
    return Finding("resume", "ok", "exact: get_state and set_state bring the env back to where it was")


def _repeated(spec: EnvSpec, config: EnvConfig, kind: str, policy: RecurrentPolicy) -> list[Finding]:
    """Play twice from the same seeds with the same actions, and once more over single envs if there is another form."""
    one, two = (_recorded(spec, config, policy) for _ in range(2))
    return [_bounds(one, policy), _determinism(one, two), _autoreset(one, spec, config, kind, policy)]


def _recorded(spec: EnvSpec, config: EnvConfig, policy: RecurrentPolicy) -> Play:
    with contextlib.closing(make(spec, config, MemoryConfig(), num_envs=2)) as envs:
        return play_on(envs, policy, reset(envs), _REPEATED_STEPS, seconds=_PLAY_SECONDS, record=True)


def _bounds(play: Play, policy: RecurrentPolicy) -> Finding:
    """Compare observations, the last ones of episodes too, with the bounds of their space."""
    seen = [tree for step in play.trace for tree in (step.observations, step.final_observations)]
    wrong = list(dict.fromkeys(one for tree in seen for one in outside(policy.observation_space, tree)))
    if wrong:
        text = f"{wrong[0]}{f', and {len(wrong) - 1} more like it' if wrong[1:] else ''}"
        return Finding("bounds", "remark", text, "Widen the observation space to all that the env can return.")
    return Finding("bounds", "ok", f"the observations of {play.steps} steps lie in their space")


def _determinism(one: Play, two: Play) -> Finding:
    step = first_difference(one, two)
    if step is not None:
        text = f"the same seed and actions give something else at step {step}: runs can't be repeated"
        return Finding("determinism", "remark", text, "Draw random numbers from self.np_random only.")
    return Finding("determinism", "ok", f"{one.steps} steps come out the same under the same seed and actions")


def _autoreset(play: Play, spec: EnvSpec, config: EnvConfig, kind: str, policy: RecurrentPolicy) -> Finding:
    """Say how finished envs are reset, and compare a batched form with single envs that Gymnasium resets."""
    ends = f"{len(play.lengths)} episodes ended within {play.steps} steps of 2 envs"
    if kind != "native":
        return Finding("autoreset", "ok", f"by Gymnasium, in the step in which an episode ends; {ends}")
    single = _recorded(spec, dataclasses.replace(config, vectorization="sync"), policy)
    step = first_difference(play, single)
    if step is not None:
        text = f"by the batched form, which differs from single envs, first at step {step}; {ends}"
        advice = "If the two draw their random numbers alike, one of them is wrong"
        return Finding("autoreset", "hint", text, f"{advice}: --vectorization sync takes single envs.")
    return Finding("autoreset", "ok", f"by the batched form, which steps exactly as single envs do; {ends}")


def _without_memory(spec: EnvSpec, config: EnvConfig, steps: int, measured: Measured) -> Finding:
    """Train without memory for a moment, and compare the return with what else is known."""
    try:
        run = train_without_memory(spec, config, steps)
    except (EnvironmentFailure, NonFiniteError, ValueError) as error:
        return unfit("learning", f"A short training fails: {error}")
    measured["memoryless_estimate"] = run.mean_return
    measured["training_steps_per_second"] = run.rate
    if run.clipped is not None and run.clipped > 0.5:
        text = f"{run.beside(measured)}; {run.clipped:.0%} of the actions' numbers lay on a bound"
        return Finding("learning", "remark", text, "Widen the action space, or try --squash-actions.")
    if run.mean_return is None:
        return Finding("learning", "hint", run.beside(measured))
    if run.is_random(measured["random_return"]):
        text = f"{run.beside(measured)}: no better than at random"
        advice = "Memory may be needed, or more steps: compare '--cell none' with the default in longer runs."
        return Finding("learning", "hint", text, advice)
    return Finding("learning", "ok", run.beside(measured))


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _clean(text: str) -> str:
    """Return a message without terminal colours and on one line."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).removeprefix("WARN: ").split())
