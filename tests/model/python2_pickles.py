# ruff: noqa
# fmt: off
"""Writes `python2_protocol{0,1,2}.pkl`: a rig of 3 vertices and 2 joints, pickled by Python 2 as official files were.

Run once with Python 2.7; numpy, scipy and chumpy need not be installed, since classes of the same names that reduce to
the same pickles stand in for them:

    python2.7 tests/model/python2_pickles.py tests/model

Every float array holds 0.5 * i - 1 at place i of its reading order.
"""

import pickle
import struct
import sys
import types


def module(name):
    made = types.ModuleType(name)
    sys.modules[name] = made
    return made


for parent in ("numpy", "numpy.core", "scipy", "scipy.sparse", "chumpy"):
    module(parent)
multiarray = module("numpy.core.multiarray")
csc = module("scipy.sparse.csc")
ch = module("chumpy.ch")
reordering = module("chumpy.reordering")


def _reconstruct(kind, shape, letter):
    return None


_reconstruct.__module__ = "numpy.core.multiarray"
multiarray._reconstruct = _reconstruct


class dtype(object):
    def __init__(self, code):
        self.code = code

    def __reduce__(self):
        order = "|" if self.code.endswith("1") else "<"
        return dtype, (self.code, 0, 1), (3, order, None, None, None, -1, -1, 0)


class ndarray(object):
    def __init__(self, shape, code, values, fortran=False):
        letter = {"f8": "d", "f4": "f", "i8": "q", "i4": "i", "u4": "I"}[code]
        data = struct.pack("<%d%s" % (len(values), letter), *values)
        self.state = (1, tuple(shape), dtype(code), fortran, data)

    def __reduce__(self):
        return _reconstruct, (ndarray, (0,), "b"), self.state


for cls, name in ((dtype, "numpy"), (ndarray, "numpy")):
    cls.__module__ = name
    setattr(sys.modules[name], cls.__name__, cls)


class csc_matrix(object):
    def __init__(self, shape, data, indices, indptr):
        self._shape = shape
        self.maxprint = 50
        self.data = data
        self.indices = indices
        self.indptr = indptr


class Ch(object):
    def __init__(self, x):
        self.x = x
        self._dirty_vars = set(["x"])
        self._itr = None

    def __getstate__(self):
        return dict(self.__dict__)


class Select(Ch):
    def __init__(self, a, idxs, preferred_shape):
        Ch.__init__(self, a)
        del self.x
        self.a = a
        self.idxs = idxs
        self.preferred_shape = preferred_shape


for cls, home in ((csc_matrix, csc), (Ch, ch), (Select, reordering)):
    cls.__module__ = home.__name__
    setattr(home, cls.__name__, cls)


def ramp(count):
    return [0.5 * place - 1 for place in range(count)]


def rig():
    # shapedirs picks columns 0 and 1 of a basis of three, as the ten-column files pick from three hundred.
    basis = [0.0] * 27
    idxs = []
    for place in range(18):
        row, column = divmod(place, 2)
        basis[row * 3 + column] = 0.5 * place - 1
        idxs.append(row * 3 + column)
    # posedirs is in Fortran order: the first axis runs fastest.
    posedirs = ramp(81)
    fortran = [posedirs[(v * 3 + x) * 9 + p] for p in range(9) for x in range(3) for v in range(3)]
    return {
        "v_template": ndarray((3, 3), "f8", ramp(9)),
        "shapedirs": Select(Ch(ndarray((3, 3, 3), "f8", basis)), ndarray((18,), "i8", idxs), (3, 3, 2)),
        "posedirs": Ch(ndarray((3, 3, 9), "f8", fortran, True)),
        # [[-1, 0, 1], [0, 0.5, 1]]; the zeros are not stored.
        "J_regressor": csc_matrix(
            (2, 3),
            ndarray((4,), "f8", [-1.0, 0.5, 1.0, 1.0]),
            ndarray((4,), "i4", [0, 1, 0, 1]),
            ndarray((4,), "i4", [0, 1, 2, 4]),
        ),
        "weights": ndarray((3, 2), "f4", [1.0, 0.0, 0.25, 0.75, 0.5, 0.5]),
        "kintree_table": ndarray((2, 2), "u4", [4294967295, 0, 0, 1]),
        "f": ndarray((1, 3), "u4", [0, 1, 2]),
        "bs_style": "lbs",
        u"bs_type": u"lrotmin \u00e4",
        "pose_training_info": {"gender": "neutral\n'\"\\", "long": 3000000000},
    }


if __name__ == "__main__":
    for protocol in (0, 1, 2):
        with open("%s/python2_protocol%d.pkl" % (sys.argv[1], protocol), "wb") as out:
            pickle.dump(rig(), out, protocol)
