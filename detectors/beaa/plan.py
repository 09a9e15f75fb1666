"""The parameters of the autoencoder."""

from dataclasses import dataclass

from detectors.parameters import between, one_of, whole


@dataclass(kw_only=True, eq=False)
class Plan:
    """How the autoencoder is trained and what it scores.

    Parameters
    ----------
    selection : {"importance", "truncation"}
        How generated rows are selected.
    measure : {"summed", "noise", "reconstruction", "combined"}
        Sum of the squared noise values and residuals; or the paper's scores: norm of the noise,
        norm of the residuals, or the product of both.
    whitening : {"diagonal", "full", "none"}
        Scale of noise values and residuals in the score; "none" is the paper's.
    n_noise : int or None
        Number of noise nodes m; None searches it: by held-out likelihood under G (importance), by
        D's likelihood of the last batch (truncation, as in the paper). At most the number of columns.
    max_noise : int or None
        Largest m of the search; None: half the columns, since the latent space is to be smaller.
    search : {"each", "doubling"}
        m = 1, 2, 3, ... as in the paper, or 1, 2, 4, ...
    discriminator : {"full", "pc", "hc", "mixture"} or None
        D: all arcs (any Gaussian, shrunk by Ledoit and Wolf), structure learned by PC or by
        hill-climbing, or a mixture of networks, for normal rows of several kinds. None: "full" for
        importance (G can be no better than the D it imitates), "pc" for truncation (the paper's).
        A mixture keeps truncation from shrinking G to a mode between the kinds, where no row is;
        importance gains nothing: G is one Gaussian, and takes no more than two moments from D.
    start : {"data", "chance"} or None
        First G: principal components of the data, or random coefficients. None: "data" for
        importance, "chance" for truncation (the paper's).
    n_members : int or None
        Size of the ensemble. None: 5 for importance, at the scoring price of one; 1 for
        truncation (the paper's).
    jitter : float
        Relative noise on the starting loadings of all members but the first; they also see
        bootstrap samples of the rows. Enough to part them, too little to lose the start.
    n_generated : int
        Rows generated in an epoch. The paper gives none; 4,000 keep the moments of 24 columns
        within a few percent.
    selected_share : float
        Truncation: share of the generated rows that is kept. The paper gives none.
    ess_share : float
        Importance: least effective share of the generated rows; beta is bisected to keep it.
    damping : float
        Importance: weight of the new moments against the old generator's.
    max_epochs : int
        Most epochs.
    patience : int
        Importance: epochs without a better held-out likelihood before training stops.
    target_logl : float or None
        Truncation: stop once D's mean log-likelihood of a batch reaches this.
    alpha : float
        Level of the PC tests of G and R, divided by their number of possible arcs (Bonferroni).
    structure_alpha : float
        Level of the PC tests of D.
    n_inverse : int
        Truncation: rows generated to learn R from. The paper gives none.
    psi_floor, residual_floor : float
        Least unexplained variance of an attribute: of unit variance, and of the variance which the
        other attributes leave unexplained.
    communality_cap : float
        Largest share of an attribute's variance that noise nodes may explain.
    prior_rows : int
        Weight of the generator's own variances against those of the held-out rows.
    """

    selection: str = "importance"
    measure: str = "summed"
    whitening: str = "diagonal"
    n_noise: int | None = None
    max_noise: int | None = None
    search: str = "each"
    discriminator: str | None = None
    start: str | None = None
    n_members: int | None = None
    jitter: float = 0.1
    n_generated: int = 4000
    selected_share: float = 0.3
    ess_share: float = 0.4
    damping: float = 0.3
    max_epochs: int = 60
    patience: int = 5
    target_logl: float | None = None
    alpha: float = 0.01
    structure_alpha: float = 0.01
    n_inverse: int = 20_000
    psi_floor: float = 1e-3
    residual_floor: float = 0.05
    communality_cap: float = 0.98
    prior_rows: int = 10

    def __post_init__(self) -> None:
        one_of("selection", self.selection, ["importance", "truncation"])
        one_of("measure", self.measure, ["summed", "noise", "reconstruction", "combined"])
        one_of("whitening", self.whitening, ["diagonal", "full", "none"])
        one_of("search", self.search, ["each", "doubling"])
        one_of("discriminator", self.discriminator, ["full", "pc", "hc", "mixture", None])
        one_of("start", self.start, ["data", "chance", None])
        for name in ("n_generated", "n_inverse"):
            whole(name, getattr(self, name), least=100)
        for name in ("max_epochs", "patience", "prior_rows"):
            whole(name, getattr(self, name), least=1)
        for name in ("n_noise", "max_noise", "n_members"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), least=1)
        for name in (*SHARES, "psi_floor", "residual_floor"):
            between(name, getattr(self, name), 0.0, 1.0)
        between("jitter", self.jitter, -1e-300, 10.0)
        if self.target_logl is not None:
            between("target_logl", self.target_logl, -1e300, 1e300)

    @property
    def faithful(self) -> bool:
        """Whether the paper's algorithm is asked for, as it stands."""
        return self.selection == "truncation"

    @property
    def score_kind(self) -> str:
        """What the score is, for explanations."""
        return self.measure if self.whitening == "none" else f"whitened_{self.measure}"

    def candidates(self, n_columns: int) -> list[int]:
        """Return the numbers of noise nodes to try, in order."""
        if self.n_noise is not None:
            return [min(self.n_noise, n_columns)]
        most = min(self.max_noise or max(1, n_columns // 2), n_columns)
        if self.search == "each":
            return list(range(1, most + 1))
        return sorted({*(2**i for i in range(most.bit_length())), most})


SHARES = ("selected_share", "ess_share", "damping", "alpha", "structure_alpha", "communality_cap")
