"""A fitting problem: terms over unknowns. Every solver takes the same one."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from avatorch.body import Body
from avatorch.fit.jacobian import Skeleton, skeleton, subtrees
from avatorch.fit.terms import MOST_NUMBERS, Columns, Term
from avatorch.fit.unknowns import BODY, Unknowns
from avatorch.rig import Posed


class Problem:
    """Minimises the sum of `terms` over the `unknowns` of `frames` bodies.

    - `unknowns`: some of betas, expression, pose, transl, camera, vertex_offsets. What is not among them stays as
      `fixed` says, or zero.
    - `shared`: those that have one value in each sequence, as `("betas",)`.
    - `sequence`: `[B]`, a number for each frame; by default all frames are one sequence.
    """

    def __init__(
        self,
        body: Body,
        terms: Sequence[Term],
        *,
        frames: int,
        unknowns: Iterable[str] = ("betas", "pose", "transl"),
        shared: Iterable[str] = (),
        sequence: Tensor | None = None,
        fixed: Mapping[str, Tensor] | None = None,
    ) -> None:
        if not isinstance(frames, int) or frames < 0:
            raise ValueError(f"fit: frames is {frames!r}, expected a whole number that is not negative")
        self.whole, self.terms, self.frames = body, list(terms), frames
        views = {term.views for term in terms if term.views}
        if len(views) > 1:
            raise ValueError(f"fit: terms look through {sorted(views)} views, expected the same number everywhere")
        self.unknowns = Unknowns(body, unknowns, shared, frames, sequence, views.pop() if views else 0)
        for name in fixed or {}:
            if name not in (*BODY, "vertex_offsets"):
                raise ValueError(f"fit: fixed has {name!r}, expected some of {', '.join(BODY)}, vertex_offsets")
        self.fixed = {name: _rows(name, value, frames).to(body.v_template) for name, value in (fixed or {}).items()}
        self.body = self._smallest_body()
        self.below = subtrees(self.body.parents).to(body.v_template)  # [J, J]
        # Frames of one group are accepted or refused together.
        self.together = self.unknowns.is_shared or any(term.couples for term in terms)
        everyone = torch.arange(frames, device=body.v_template.device)
        self.group = self.unknowns.sequence if self.together else everyone  # [B]
        self.bind()

    def bind(self) -> None:
        """Terms know one problem at a time: from now on it is this one."""
        for term in self.terms:
            if term.bound is None or term.bound() is not self:
                term.bind(self)
                term.bound = weakref.ref(self)

    def _smallest_body(self) -> Body:
        """The body with only the vertices that a term looks at."""
        needs = [term.vertices(self.whole) for term in self.terms]
        offset = "vertex_offsets" in {*self.unknowns.slices, *self.fixed}
        if offset or any(need is None for need in needs):
            self.place = torch.arange(len(self.whole.v_template), device=self.whole.v_template.device)
            return self.whole
        nothing = torch.zeros(0, dtype=torch.long)
        device = self.whole.v_template.device  # where an argument need not be
        chosen = torch.cat([need.to(device).long() for need in (nothing, *needs) if need is not None]).unique()
        self.place = torch.full(self.whole.v_template.shape[:1], -1, device=chosen.device)
        self.place[chosen] = torch.arange(len(chosen), device=chosen.device)
        return self.whole.subset(chosen)

    def state(self, x: Tensor, widen: float = 1.0) -> State:
        """The bodies of all frames. x [B, N]; `widen` is what robust kernels are wider by."""
        self.bind()
        return State(self, x, slice(None), widen)

    def costs(self, state: State, weights: Mapping[str, float] | None = None) -> Tensor:
        """What each frame costs, [B]; differentiable. `weights` scale terms by their names."""
        total = state.x[:, :0].sum(1)  # zeros with a gradient, even if no term counts
        for term in self.terms:
            factor = (weights or {}).get(term.name, 1.0)
            if factor:
                total = total + factor * term.cost(state)
        return total

    def normal_matrices(self, state: State, columns: Columns, weights: Mapping[str, float] | None = None) -> Tensor:
        """The Gauss-Newton matrix of each frame, [B, n, n]; frames are taken in pieces that fit into memory."""
        n = len(columns.every)
        total = state.x.new_zeros(self.frames, n, n)
        for term in self.terms:
            factor = (weights or {}).get(term.name, 1.0)
            if not factor:
                continue
            most = MOST_NUMBERS << 3 if state.x.is_cuda else MOST_NUMBERS
            step = max(1, most // max(1, term.footprint(self.body, columns)))
            for first in range(0, self.frames, step):
                rows = slice(first, min(first + step, self.frames))
                total[rows] += factor * term.curvature(state.part(rows), columns)
        return total

    def grouped(self, costs: Tensor) -> Tensor:
        """[B] -> [G], sums over frames that are accepted or refused together."""
        return self.unknowns.summed(costs) if self.together else costs


class State:
    """One evaluation; what is expensive is made once, and only if a term asks."""

    def __init__(self, problem: Problem, x: Tensor, rows: slice, widen: float = 1.0) -> None:
        self.problem, self.x, self.rows, self.widen = problem, x, rows, widen
        self.values = problem.unknowns.split(x)
        self._posed: Posed | None = None
        self._bones: Skeleton | None = None
        self.memory: dict[Term, tuple[Tensor, ...]] = {}  # what terms found, a row for each frame

    @property
    def body(self) -> Body:
        """With the vertices that the terms need."""
        return self.problem.body

    @property
    def posed(self) -> Posed:
        """The bodies, [B', V', 3] and so on."""
        if self._posed is None:
            given = {name: self.given(name) for name in {*self.values, *self.problem.fixed} - {"camera"}}
            if "vertex_offsets" in given:
                given["vertex_offsets"] = given["vertex_offsets"].reshape(len(self.x), -1, 3)
            given.setdefault("transl", self.x.new_zeros(len(self.x), 3))
            self._posed = self.body(**given)
        return self._posed

    @property
    def bones(self) -> Skeleton:
        """For derivatives in closed form."""
        if self._bones is None:
            joints = self.body.num_joints
            pose = self.given("pose", 3 * joints).reshape(-1, joints, 3)
            self._bones = skeleton(self.body, self.problem.below, self.posed, pose, self.given("transl", 3))
        return self._bones

    def part(self, rows: slice) -> State:
        """The same for some of its frames, without derivatives; only for a state of all frames."""
        part = State(self.problem, self.x[rows].detach(), rows, self.widen)
        part._posed = Posed(*(tensor[rows].detach() for tensor in self.posed))
        below, parents, *of_frames = self.bones
        part._bones = Skeleton(below, parents, *(tensor[rows].detach() for tensor in of_frames))
        for term, found in self.memory.items():
            part.memory[term] = type(found)(*(tensor[rows] for tensor in found))
        return part

    def given(self, name: str, zeros: int = 0) -> Tensor:
        """An unknown, what is fixed, or zeros: [B', ...]"""
        if name in self.values:
            return self.values[name]
        if name not in self.problem.fixed:
            return self.x.new_zeros(len(self.x), zeros)
        fixed = self.problem.fixed[name]
        return fixed[self.rows] if len(fixed) > 1 else fixed.expand(len(self.x), *fixed.shape[1:])


def _rows(name: str, value: Tensor, frames: int) -> Tensor:
    """[B or 1, ...]"""
    value = torch.as_tensor(value)
    value = value if value.ndim > 1 else value[None]
    if len(value) not in (1, frames):
        raise ValueError(f"fit: fixed {name} has shape {list(value.shape)}, expected [{frames} or 1, ...]")
    return value
