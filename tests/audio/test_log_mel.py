"""mel::log_mel and its backward: the contract of every operator, and every option against the reference."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import avatorch  # noqa: F401
from avatorch.reference import mel as reference
from contract import NodeTests
from transforms import assert_equal

mel = torch.ops.mel
double = torch.double

# Small enough for Jacobians; a range of 0.6 cuts a good part of noise.
SIZES = {"sample_rate": 800, "n_fft": 20, "win_length": 16, "hop_length": 8, "n_mels": 4}
SMALL = " ".join(f"{name}={value}" for name, value in SIZES.items())
# Each convention as the operator takes it, and as the reference does.
WHISPER = (f"whisper {SMALL} dynamic_range=0.6", reference.WHISPER | SIZES | {"range_below": 0.6})
NEMO = (f"nemo {SMALL}", reference.NEMO | SIZES)
KALDI = reference.KALDI | SIZES | {"f_min": 10.0}
CONVENTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "whisper": WHISPER,
    "nemo": NEMO,
    "kaldi": (f"kaldi {SMALL} f_min=10", KALDI),
    "kaldi, mirrored": (
        f"kaldi {SMALL} f_min=10 framing=mirrored input_scale=3",
        KALDI | {"framing": "mirrored", "input_scale": 3.0},
    ),
    "torchaudio": (f"torchaudio {SMALL}", SIZES),
    "bigvgan": (f"bigvgan {SMALL} win_length=20", reference.BIGVGAN | SIZES | {"win_length": 20}),
    "vocos": (f"vocos {SMALL}", reference.VOCOS | SIZES),
    "the batch's loudest": (f"{WHISPER[0]} loudest=batch", WHISPER[1] | {"loudest": "batch"}),
    "the loudest so far": (f"{WHISPER[0]} loudest=so_far", WHISPER[1] | {"loudest": "so_far"}),
    "a constant": (f"{WHISPER[0]} loudest=-1", WHISPER[1] | {"loudest": -1.0}),
    "normalised and cut": (
        f"{NEMO[0]} dynamic_range=2.5 layout=frame_major scale=0.5",
        NEMO[1] | {"range_below": 2.5, "frame_major": True, "scale": 0.5},
    ),
    "appended zeros": (f"{NEMO[0]} padding=append:30", NEMO[1] | {"padding": ("append", 30)}),
    "longer": (f"{WHISPER[0]} padding=to:70", WHISPER[1] | {"padding": ("to", 70)}),
    "shorter": (f"{NEMO[0]} padding=to:30", NEMO[1] | {"padding": ("to", 30)}),
    "energy": (f"kaldi {SMALL} f_min=10 energy=raw", KALDI | {"energy": "raw"}),
    "windowed energy": (
        f"kaldi {SMALL} f_min=10 energy=windowed energy_floor=3 framing=mirrored scale=0.5 offset=2",
        KALDI | {"energy": "windowed", "energy_floor": 3.0, "framing": "mirrored", "scale": 0.5, "offset": 2.0},
    ),
    "normalised energy": (
        f"{NEMO[0]} energy=raw energy_floor=8 remove_dc=true preemphasis=frame:0.9 padding=append:30",
        NEMO[1]
        | {"energy": "raw", "energy_floor": 8.0, "remove_dc": True}
        | {"preemphasis": ("frame", 0.9), "padding": ("append", 30)},
    ),
    "an odd transform": (f"{WHISPER[0]} n_fft=21", WHISPER[1] | {"n_fft": 21}),
}


def tables(convention: str, device: str = "cpu") -> list[Tensor]:
    return [table.to(device) for table in mel.tables(convention)]


def of_reference(waveform: Tensor, window: Tensor, filters: Tensor, bands: Tensor, options: dict[str, Any]) -> Tensor:
    """The reference in the waveform's own precision, with these tables."""
    bins = torch.arange(filters.shape[1], device=bands.device)
    bank = torch.where((bands[:, :1] <= bins) & (bins < bands[:, 1:]), filters, 0.0)
    return reference.log_mel(waveform, dtype=waveform.dtype, **(options | {"window": window, "bank": bank}))


class Contract(NodeTests):
    namespace = "mel"
    name = "log_mel"
    differentiable = (0, 1, 2)
    convention: ClassVar[tuple[str, dict[str, Any]]]

    def inputs(self, batch: int) -> list[Any]:
        return [torch.randn(batch, 43, dtype=double), *tables(self.convention[0]), None, self.convention[0]]

    def reference(self, waveform: Any, window: Any, filters: Any, bands: Any, lengths: Any, convention: Any) -> Tensor:
        if len(waveform) == 0:  # which torch's transform refuses; frames and features are 4 and 5 in any order here
            return waveform.new_zeros(0, 4, 5) + 0 * (waveform.sum() + window.sum() + filters.sum())
        return of_reference(waveform, window, filters, bands, self.convention[1])

    def test_wrong_dtypes_and_devices_are_sentences(self, device: str) -> None:
        waveform, window, filters, bands, _, convention = self.on(device, 2)
        for position, name in enumerate(["waveform", "window", "filters"]):
            wrong = [waveform, window, filters, bands]
            wrong[position] = wrong[position].half()
            with pytest.raises(TypeError, match=f"mel::log_mel: {name} is float16, expected float32 or float64"):
                mel.log_mel(*wrong, None, convention)
        if device == "cuda":
            with pytest.raises(ValueError, match="mel::log_mel: window is on cpu, expected cuda:0 as waveform"):
                mel.log_mel(waveform, window.cpu(), filters, bands, None, convention)


class TestWhisper(Contract):
    convention = WHISPER


class TestNemo(Contract):
    # The contract makes filters negative: the logarithm must bear it.
    convention = (
        f"{NEMO[0]} guard=plus:100 mel_norm=none",
        NEMO[1] | {"guard": ("plus", 100.0), "mel_norm": None},
    )


class TestKaldiWithEnergy(Contract):
    convention = (
        f"kaldi {SMALL} f_min=10 guard=plus:100 energy=windowed",
        KALDI | {"guard": ("plus", 100.0), "energy": "windowed"},
    )


class TestBackward(NodeTests):
    """The backward operator, differentiated itself."""

    convention: ClassVar[tuple[str, dict[str, Any]]] = WHISPER
    namespace = "mel"
    name = "log_mel_backward"
    batched = (0, 1)
    differentiable = (0, 1)

    def inputs(self, batch: int) -> list[Any]:
        waveform = torch.randn(batch, 43, dtype=double)
        convention = self.convention[0]
        return [torch.randn(batch, 4, 5, dtype=double), waveform, *tables(convention), None, convention]

    def reference(self, grad: Any, waveform: Any, window: Any, filters: Any, bands: Any, *_: Any) -> Tensor:
        if len(waveform) == 0:
            return 0 * waveform + 0 * grad.sum()
        with torch.enable_grad():
            x = waveform if waveform.requires_grad else waveform.clone().requires_grad_()
            values = of_reference(x, window, filters, bands, self.convention[1])
            return torch.autograd.grad(values, x, grad, create_graph=True)[0]

    # The reference above calls autograd itself; dtypes are those of the forward operator.
    test_torch_func = None  # type: ignore[assignment]
    test_wrong_dtypes_and_devices_are_sentences = None  # type: ignore[assignment]
    test_vmap_of_everything = None  # type: ignore[assignment]
    test_compiled_autograd_of_two_calls = None  # type: ignore[assignment]
    test_autocast_computes_in_float32 = None  # type: ignore[assignment]


class TestBackwardOfEnergy(TestBackward):
    convention = (f"kaldi {SMALL} f_min=10 energy=raw", KALDI | {"energy": "raw"})


@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_option(name: str, device: str) -> None:
    convention, options = CONVENTIONS[name]
    given = tables(convention, device)
    waveform = torch.randn(3, 2, 43, dtype=double).to(device)
    inputs = [x.clone().requires_grad_() for x in (waveform, *given[:2])]
    found = mel.log_mel(*inputs, given[2], None, convention)
    expected = of_reference(*inputs, given[2], options)
    assert_equal(found, expected, 2e-11)
    weights = torch.randn_like(found)
    gradients = [torch.autograd.grad((values * weights).sum(), inputs) for values in (found, expected)]
    assert_equal(*gradients, 1e-9)
    alone = torch.autograd.grad((mel.log_mel(inputs[0], *given, None, convention) * weights).sum(), inputs[0])
    assert_equal(alone, gradients[1][:1], 1e-9)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16])
def test_gradients_of_learned_tables_under_autocast(narrow: torch.dtype, inside: bool, device: str) -> None:
    """Of quiet sound, where they are larger than a float16 is: in torch's own operators, which autocast would reach."""
    window, filters, bands = tables("whisper", device)
    waveform = 1e-3 * torch.randn(2, 4000, device=device)
    leaves = [tensor.float().requires_grad_() for tensor in (waveform, window, filters)]

    def loss() -> Tensor:
        return mel.log_mel(*leaves, bands, None, "whisper").sin().sum()

    wanted = torch.autograd.grad(loss(), leaves)
    with torch.autocast(device, dtype=narrow):
        value = loss()
        found = torch.autograd.grad(value, leaves, retain_graph=True)
    assert_equal(found if inside else torch.autograd.grad(value, leaves), wanted, 1e-5)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_second_derivatives_of_every_option(name: str, device: str) -> None:
    convention, _ = CONVENTIONS[name]
    given = tables(convention, device)
    waveform = torch.randn(2, 43, dtype=double, device=device, requires_grad=True)

    def function(x: Tensor) -> Tensor:
        return mel.log_mel(x, *given, None, convention)

    nondeterministic = 1e-10 if device == "cuda" else 0.0  # torch's own scatter_add
    assert gradcheck(function, waveform, check_forward_ad=True, fast_mode=True)
    assert gradgradcheck(
        function, waveform, check_fwd_over_rev=True, fast_mode=True, nondet_tol=nondeterministic, atol=1e-4
    )


@pytest.mark.parametrize("name", CONVENTIONS)
def test_ragged_clips_are_the_clips_alone(name: str, device: str) -> None:
    """Values beyond a clip's frames are zero, its other samples are not read, and no gradient reaches them."""
    convention, _ = CONVENTIONS[name]
    given = tables(convention, device)
    lengths = torch.tensor([43, 30, 17, 0, 26], device=device)
    waveform = torch.randn(5, 43, dtype=double, device=device)
    for clip, length in enumerate(lengths.tolist()):
        waveform[clip, length:] = torch.nan
    waveform.requires_grad_()
    found = mel.log_mel(waveform, *given, lengths, convention)
    weights = torch.randn_like(found)
    (gradient,) = torch.autograd.grad((found * weights).sum(), waveform)
    if "batch" in convention:
        assert found.isfinite().all() and gradient.isfinite().all()
        return
    axis = 1 if "frame_major" in convention or convention.startswith("kaldi") else 2
    for clip, length in enumerate(lengths.tolist()):
        n_frames = 0
        if length:
            own = waveform.detach()[clip, :length].clone().requires_grad_()
            alone = mel.log_mel(own, *given, None, convention)
            n_frames = min(alone.shape[axis - 1], found.shape[axis])
            assert_equal(found[clip].narrow(axis - 1, 0, n_frames), alone, 1e-12)
            (of_own,) = torch.autograd.grad((alone * weights[clip].narrow(axis - 1, 0, n_frames)).sum(), own)
            assert_equal(gradient[clip, :length], of_own, 1e-10)
        assert not found[clip].narrow(axis - 1, n_frames, found.shape[axis] - n_frames).any()
        assert not gradient[clip, length:].any()
    # The formula, through which second derivatives go, agrees.
    tangent = torch.where(waveform.isnan(), 0.0, torch.randn_like(waveform))
    (_, pushed) = torch.func.jvp(
        lambda x: mel.log_mel(x, *given, lengths, convention), (waveform.detach(),), (tangent,)
    )
    assert_equal((pushed * weights).sum(), (gradient * tangent).sum(), 1e-8)


# Padding to so many samples, in every kernel of a GPU: frames of 400 and 512 points have their own in float32.
# The last frame that Whisper keeps reaches over the end, and its tile is within the clips of 1400 samples more.
CUT = 6561
CUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "400 points": ("whisper", reference.WHISPER),
    "512 points": ("whisper n_fft=512", reference.WHISPER | {"n_fft": 512}),
    "640 points": ("whisper n_fft=640", reference.WHISPER | {"n_fft": 640}),
    "400 points with an echo": ("nemo n_fft=400", reference.NEMO | {"n_fft": 400}),
    "512 points with an echo": ("nemo", reference.NEMO),
    "mirrored": ("kaldi framing=mirrored", reference.KALDI | {"framing": "mirrored"}),
    "energy": ("kaldi energy=raw energy_floor=0", reference.KALDI | {"energy": "raw", "energy_floor": 0.0}),
}


def cut(name: str) -> tuple[str, dict[str, Any]]:
    convention, options = CUTS[name]
    return f"{convention} padding=to:{CUT}", options | {"padding": ("to", CUT)}


def noise_before_the_cut(*sizes: int) -> Tensor:
    """Not a number behind the cut, where nothing may be read."""
    waveform = 0.1 * torch.randn(*sizes, dtype=double)
    waveform[..., CUT:] = torch.nan
    return waveform


def assert_near(found: Tensor, expected: Tensor) -> None:
    """What rounding allows, in parts of the largest value."""
    tolerance = 1e-9 if found.dtype == double else 1e-3
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * expected.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.float32, double])
@pytest.mark.parametrize("beyond", [-1, 0, 1, 1400, 20_000])
@pytest.mark.parametrize("name", CUTS)
def test_nothing_behind_the_cut_is_read(name: str, beyond: int, dtype: torch.dtype, device: str) -> None:
    convention, options = cut(name)
    exact = noise_before_the_cut(2, CUT + beyond).to(dtype).double().requires_grad_()
    expected = of_reference(exact, *tables(convention), options)
    weights = torch.randn_like(expected)
    (of_exact,) = torch.autograd.grad((expected * weights).sum(), exact)

    def found_on(device: str, by_formula: bool = False) -> tuple[Tensor, Tensor]:
        clips = exact.detach().to(device, dtype).requires_grad_()
        window, *others = tables(convention, device)
        window.requires_grad_(by_formula)
        values = mel.log_mel(clips, window, *others, None, convention)
        gradient = torch.autograd.grad((values * weights.to(values)).sum(), [clips, window][: 1 + by_formula])[0]
        assert gradient[:, :CUT].any() and not gradient[:, CUT:].any()
        return values, gradient

    found, gradient = found_on(device)
    assert_near(found, expected)
    assert_near(gradient, of_exact)
    for one, other in zip((found, gradient), found_on("cpu"), strict=True):
        assert_near(one, other)
    if dtype == double:
        assert_near(found_on(device, by_formula=True)[1], of_exact)
    # More tiles than a GPU runs at once: a block fetches samples of its next one.
    many = exact[:1].detach().to(device, dtype).expand(300, -1)
    values = mel.log_mel(many, *tables(convention, device), None, convention)
    assert_near(values, found[:1].expand_as(values))


@pytest.mark.parametrize("dtype", [torch.float32, double])
@pytest.mark.parametrize("name", CUTS)
def test_nothing_behind_the_cut_or_a_clips_own_length_is_read(name: str, dtype: torch.dtype, device: str) -> None:
    convention, options = cut(name)
    given = tables(convention, device)
    lengths = torch.tensor([CUT - 1, CUT, CUT + 1, CUT + 1400, CUT + 20_000, 0, 700])
    exact = noise_before_the_cut(len(lengths), CUT + 20_000).to(dtype).double()
    for clip, length in enumerate(lengths.tolist()):
        exact[clip, length:] = torch.nan
    clips = exact.to(device, dtype).requires_grad_()
    found = mel.log_mel(clips, *given, lengths.to(device), convention)
    weights = torch.randn(found.shape, dtype=double)
    (gradient,) = torch.autograd.grad((found * weights.to(found)).sum(), clips)
    for clip, length in enumerate(lengths.tolist()):
        if length == 0:
            assert not found[clip].any() and not gradient[clip].any()
            continue
        own = exact[clip, :length].clone().requires_grad_()
        expected = of_reference(own, *tables(convention), options)
        assert_near(found[clip], expected)
        (of_own,) = torch.autograd.grad((expected * weights[clip]).sum(), own)
        assert_near(gradient[clip, :length], of_own)
        assert not gradient[clip, min(length, CUT) :].any()
    if dtype == double:  # the formula, through which second derivatives go, agrees
        tangent = torch.where(clips.isnan(), 0.0, torch.randn_like(clips))
        (values, pushed) = torch.func.jvp(
            lambda x: mel.log_mel(x, *given, lengths.to(device), convention), (clips.detach(),), (tangent,)
        )
        assert_near(values, found)
        assert_equal((pushed * weights.to(device)).sum(), (gradient * tangent).sum(), 1e-8)
    if device == "cuda":  # lengths beyond the samples, which the CPU refuses
        wrong = lengths.to(device)
        wrong[1], wrong[2] = CUT + 20_001, -1
        bad = mel.log_mel(clips.detach(), *given, wrong, convention).isnan().flatten(1)
        assert bad.all(1).tolist() == bad.any(1).tolist() == [False, True, True, False, False, False, False]


def test_a_cut_that_leaves_nothing(device: str) -> None:
    """An error on every device, or no frames and no gradient."""
    clips = torch.randn(2, 3000, device=device, requires_grad=True)
    with pytest.raises(ValueError, match="the clip has 0 samples, expected at least 201 to mirror its edges"):
        mel.log_mel(clips, *tables("whisper", device), None, "whisper padding=to:0")
    values = mel.log_mel(clips, *tables("kaldi", device), None, "kaldi padding=to:0")
    assert values.shape == (2, 0, 23)
    assert not torch.autograd.grad(values.sum(), clips)[0].any()


@pytest.mark.parametrize("n_fft", [400, 512, 640])
def test_a_band_without_bins_may_begin_anywhere(n_fft: int, device: str) -> None:
    """Behind the last bin too, where on a GPU other frames are: one that is not a number stays alone."""
    convention = f"whisper n_fft={n_fft} loudest=1"
    window, filters, bands = tables(convention, device)
    bins = n_fft // 2 + 1
    bands[3], bands[70], bands[71], bands[79] = torch.tensor([[0, 0], [100, 100], [bins - 1, bins - 1], [bins, bins]])
    empty = torch.tensor([3, 70, 71, 79])
    clip = 0.1 * torch.randn(16000, device=device)
    for place in (None, 200, 3000, 9999):
        if place is not None:
            clip[place : place + 16] = torch.nan
        found = mel.log_mel(clip, window, filters, bands, None, convention).cpu()
        ours = tables(convention)[:2]
        expected = mel.log_mel(clip.cpu(), *ours, bands.cpu(), None, convention)
        frames = expected[4].isfinite()
        assert torch.equal(found[4].isfinite(), frames)
        assert_near(found[:, frames], expected[:, frames])
        # The floor of the range is above the guard.
        assert (found[empty][:, frames] == (1 - 8) / 4 + 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, double])
@pytest.mark.parametrize("framing", ["inside", "mirrored"])
@pytest.mark.parametrize(
    ("n_fft", "win_length", "hop_length"),
    [(400, 300, 160), (400, 101, 75), (512, 400, 160), (512, 301, 162), (512, 3, 160), (640, 301, 160)],
)
def test_what_lies_behind_a_frame_is_not_read(
    n_fft: int, win_length: int, hop_length: int, framing: str, dtype: torch.dtype, device: str
) -> None:
    """Where the window is shorter than the transform, the tables of a GPU go on behind the frame."""
    sizes = f"n_fft={n_fft} win_length={win_length} hop_length={hop_length} n_mels=20"
    convention = f"torchaudio {sizes} framing={framing}"
    for bad in (torch.nan, torch.inf):  # at every place that a hop has
        clips = 0.1 * torch.randn(hop_length, 6000).to(dtype)
        clips.diagonal(3000).fill_(bad)
        expected = mel.log_mel(clips, *tables(convention), None, convention)
        found = mel.log_mel(clips.to(device), *tables(convention, device), None, convention).cpu()
        frames = expected.isfinite().all(1)
        assert frames.logical_not().sum() == win_length
        assert torch.equal(found.isfinite().all(1), frames)
        assert torch.equal(found.isfinite().any(1), frames)
        assert_near(found.mT[frames], expected.mT[frames])


def test_ties_share_as_in_torch(device: str) -> None:
    """Values at the floor halve their gradient; equal loudest values share theirs; silence has none."""
    options = {"sample_rate": 800, "n_fft": 20, "win_length": 20, "hop_length": 20, "n_mels": 4, "framing": "inside"}
    words = [f"{name}={value}" for name, value in options.items()]
    convention = " ".join(["torchaudio", *words, "dynamic_range=0"])
    given = tables(convention, device)
    clip = torch.randn(20, dtype=double, device=device).repeat(3).requires_grad_()  # three equal frames
    expected = of_reference(clip, *given, options | {"range_below": 0.0})
    weights = torch.randn_like(expected)
    found = mel.log_mel(clip, *given, None, convention)
    gradients = [torch.autograd.grad((values * weights).sum(), clip) for values in (found, expected)]
    assert_equal(*gradients, 1e-10)
    silence = torch.zeros(1000, dtype=double, device=device, requires_grad=True)
    values = mel.log_mel(silence, *tables("whisper", device))
    assert (values == -1.5).all()
    assert not torch.autograd.grad(values.sum(), silence)[0].any()


def test_as_many_threads_as_torch_has() -> None:
    clips, given = torch.randn(7, 5000), tables("whisper")
    clips.requires_grad_()
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            values = mel.log_mel(clips, *given)
            results.append([values, *torch.autograd.grad(values.sin().sum(), clips)])
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(result, results[0], strict=True))


def test_export_with_any_length(device: str) -> None:
    class Module(torch.nn.Module):
        def forward(self, waveform: Tensor, window: Tensor, filters: Tensor, bands: Tensor) -> Tensor:
            return mel.log_mel(waveform, window, filters, bands)

    given = tables("whisper", device)
    clips = torch.randn(2, 3000, device=device)
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("samples", min=400, max=1 << 24)}
    program = torch.export.export(Module(), (clips, *given), dynamic_shapes=(dims, None, None, None))
    other = torch.randn(5, 4321, device=device)
    assert torch.equal(program.module()(other, *given), mel.log_mel(other, *given))


@pytest.mark.parametrize(
    ("waveform", "convention", "sentence"),
    [
        (torch.zeros(200), "whisper", "the clip has 200 samples, expected at least 201 to mirror its edges"),
        (torch.zeros(()), "whisper", r"waveform has shape \[\], expected \[..., samples\]"),
        (torch.zeros(400), "wisper", 'dialect is "wisper", expected one of whisper'),
        (torch.zeros(400), "whisper mels=3", 'there is no option "mels"'),
        (torch.zeros(400), "whisper energy=raw", "there is an energy and a dynamic_range of 8, expected one of them"),
        (torch.zeros(400), "whisper n_mels=128", r"filters has shape \[80, 201\], expected \[128, 201\]"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(waveform: Tensor, convention: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"mel::log_mel: {sentence}"):
        mel.log_mel(waveform, *tables("whisper"), None, convention)


def test_an_operator_that_would_not_repeat_is_a_sentence() -> None:
    with pytest.raises(NotImplementedError, match=r"mel::log_mel: dither is 0\.1, expected 0: .* MelSpectrogram adds"):
        mel.log_mel(torch.zeros(400), *tables("kaldi"), None, "kaldi dither=0.1")


def test_wrong_lengths_and_bands_are_sentences() -> None:
    window, filters, bands = tables("whisper")
    waveform = torch.zeros(2, 1000)
    for lengths, sentence in [
        (torch.tensor([1000, 1001]), r"lengths\[1\] is 1001, expected 0 to 1000"),
        (torch.tensor([-1, 5]), r"lengths\[0\] is -1, expected 0 to 1000"),
        (torch.tensor([1000, 7]), "clip 1: the clip has 7 samples, expected at least 201"),
        (torch.tensor([1000]), r"lengths has shape \[1\], expected \[2\]"),
    ]:
        with pytest.raises(ValueError, match=f"mel::log_mel: {sentence}"):
            mel.log_mel(waveform, window, filters, bands, lengths)
    with pytest.raises(TypeError, match="lengths is int32, expected int64"):
        mel.log_mel(waveform, window, filters, bands, torch.tensor([5, 5], dtype=torch.int32))
    bands[3] = torch.tensor([5, 202])
    with pytest.raises(ValueError, match=r"bands\[3\] is \[5, 202\], expected 0 <= first <= end <= 201"):
        mel.log_mel(waveform, window, filters, bands)
