"""An orchestra of 120 players in unequal sections: each section as loud as the score asks, at every moment.

At each moment the section's own mean and spread are taken out, be it 34 violins or one harp; twelve brass players
weigh no more than they should. Then each section gets back its character, which the score knows: gamma, how much its
players differ, and beta, how loud it is. What was taken out is not lost: the removed means are the music's dynamics.

`batchfix.nn.FeatureGroupNorm(sections)` is the same map as a layer, which learns gamma and beta (and divides by n
where this divides by n - 1).
"""

import numpy as np
import pandas as pd

from batchfix import GroupCorrector

SECTIONS = pd.DataFrame(  # loudness in decibels: as the hall carries it, and as the score asks
    {
        "violins": (34, 58, 66, 2.0),
        "violas": (16, 56, 62, 1.5),
        "cellos": (14, 58, 64, 1.5),
        "basses": (10, 55, 63, 1.0),
        "woodwinds": (18, 62, 64, 3.0),
        "horns": (9, 70, 66, 1.5),
        "brass": (12, 78, 67, 2.0),
        "percussion": (6, 75, 65, 5.0),
        "harp": (1, 50, 74, 1.0),
    },
    index=["players", "carries", "beta", "gamma"],
).T

rng = np.random.default_rng(0)
section = pd.Series(np.repeat(SECTIONS.index, SECTIONS["players"].astype(int)))
section.index = section + (section.groupby(section).cumcount() + 1).astype(str)  # violins1, violins2, ...

moments = 500
dynamics = 8 * np.sin(np.linspace(0, 12, moments))  # the music swells and fades
mood = pd.DataFrame(rng.normal(0, 3, (moments, len(SECTIONS))), columns=SECTIONS.index)
loudness = mood[section].set_axis(section.index, axis=1) + rng.normal(0, 3, (moments, len(section)))
loudness = loudness.add(dynamics, axis=0) + section.map(SECTIONS["carries"])

balancer = GroupCorrector(groups=section, return_group_stats=True)
table = balancer.fit_transform(loudness)
balanced, removed = table[section.index], table.filter(like="mean(")
heard = balanced * section.map(SECTIONS["gamma"]) + section.map(SECTIONS["beta"])


def share(decibels):
    """Share of the sound's power that each section makes."""
    power = (10 ** (decibels / 10)).T.groupby(section).sum().T
    return power.div(power.sum(axis=1), axis=0).mean()


before, after = share(loudness), share(heard)
print("section     players  of the sound before  after")
for name, players in SECTIONS["players"].items():
    print(f"{name:<12}{players:>7.0f}{before[name]:>21.0%}{after[name]:>7.0%}")

level = heard.T.groupby(section).mean().T
assert np.allclose(level, SECTIONS["beta"][level.columns])  # at every moment
spread = heard.T.groupby(section).std().T.drop(columns="harp")  # one player has no spread
assert np.allclose(spread, SECTIONS["gamma"][spread.columns])
assert before["brass"] > 0.5 > 0.3 > after["brass"]

follows = np.corrcoef(removed.mean(axis=1), dynamics)[0, 1]
print(f"the removed means follow the music's dynamics: correlation {follows:.2f}")
assert follows > 0.9
