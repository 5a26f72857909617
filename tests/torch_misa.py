"""MISA in PyTorch, written from the description of the published code: what our models are compared with.

Parameters have the published code's names, so that its state dict is one of the published code's. Sizes, cells, text
encoder and activation are free.
"""

import itertools
from collections import OrderedDict

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

LETTERS = ("t", "v", "a")
ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
}


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Misa(nn.Module):
    def __init__(
        self,
        sizes,  # of the features: text, visual, acoustic
        hidden_dim=8,
        num_classes=1,
        vocabulary=20,
        activation="relu",
        cell="lstm",
        dropout=0.0,
        fusion_dropout=0.0,
        adversarial=False,
        bert=None,  # a module that gives (batch, time, size)
    ):
        super().__init__()
        self.sizes = dict(zip(LETTERS, sizes, strict=True))
        self.activation = ACTIVATIONS[activation]()
        self.has_bert = bert is not None
        rnn = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        if self.has_bert:
            self.bertmodel = bert
        else:
            self.embed = nn.Embedding(vocabulary, sizes[0])
        for x, size in self.sizes.items():
            if x != "t" or not self.has_bert:
                self.add_module(f"{x}rnn1", rnn(size, size, bidirectional=True))
                self.add_module(f"{x}rnn2", rnn(2 * size, size, bidirectional=True))
            self.add_module(f"{x}layer_norm", nn.LayerNorm(2 * size))
            utterance = bert.pooler.dense.out_features if x == "t" and self.has_bert else 4 * size
            self.add_module(
                f"project_{x}",
                self.named(
                    **{
                        f"project_{x}": nn.Linear(utterance, hidden_dim),
                        f"project_{x}_activation": self.activation,
                        f"project_{x}_layer_norm": nn.LayerNorm(hidden_dim),
                    }
                ),
            )
            name = f"private_{x}_{3 if x == 'a' else 1}"
            self.add_module(f"private_{x}", self.named(**{name: nn.Linear(hidden_dim, hidden_dim), "s": nn.Sigmoid()}))
            self.add_module(f"recon_{x}", self.named(**{f"recon_{x}_1": nn.Linear(hidden_dim, hidden_dim)}))
        self.shared = self.named(shared_1=nn.Linear(hidden_dim, hidden_dim), s=nn.Sigmoid())
        self.sp_discriminator = self.named(sp_discriminator_layer_1=nn.Linear(hidden_dim, 4))
        self.adversarial = adversarial
        if adversarial:
            self.discriminator = self.named(
                discriminator_layer_1=nn.Linear(hidden_dim, hidden_dim),
                discriminator_layer_1_activation=self.activation,
                discriminator_layer_1_dropout=nn.Dropout(dropout),
                discriminator_layer_2=nn.Linear(hidden_dim, 3),
            )
        layer = nn.TransformerEncoderLayer(hidden_dim, nhead=2, dropout=fusion_dropout)
        self.transformer_encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.fusion = self.named(
            fusion_layer_1=nn.Linear(6 * hidden_dim, 3 * hidden_dim),
            fusion_layer_1_dropout=nn.Dropout(dropout),
            fusion_layer_1_activation=self.activation,
            fusion_layer_3=nn.Linear(3 * hidden_dim, num_classes),
        )
        for name, parameter in self.named_parameters():
            if "weight_hh" in name:
                nn.init.orthogonal_(parameter)

    @staticmethod
    def named(**modules):
        return nn.Sequential(OrderedDict(modules))

    def utterance(self, x, inputs, lengths):
        """Final states of two stacked bidirectional layers."""
        states = []
        for number in (1, 2):
            packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
            outputs, final = getattr(self, f"{x}rnn{number}")(packed)
            states.append(final[0] if isinstance(final, tuple) else final)
            padded, _ = pad_packed_sequence(outputs, batch_first=True)
            inputs = getattr(self, f"{x}layer_norm")(padded)
        return torch.cat(states, dim=2).permute(1, 0, 2).reshape(len(lengths), -1)

    def forward(self, text, visual, acoustic, lengths, mask=None):
        if self.has_bert:
            states = self.bertmodel(input_ids=text, attention_mask=mask)[0]
            weights = mask[:, :, None].to(states.dtype)
            vectors = {"t": (states * weights).sum(1) / weights.sum(1)}
        else:
            vectors = {"t": self.utterance("t", self.embed(text), lengths)}
        vectors["v"] = self.utterance("v", visual, lengths)
        vectors["a"] = self.utterance("a", acoustic, lengths)
        self.projected = {x: getattr(self, f"project_{x}")(vectors[x]) for x in LETTERS}
        self.privates = {x: getattr(self, f"private_{x}")(self.projected[x]) for x in LETTERS}
        self.shareds = {x: self.shared(self.projected[x]) for x in LETTERS}
        self.reconstructed = {x: getattr(self, f"recon_{x}")(self.privates[x] + self.shareds[x]) for x in LETTERS}
        tokens = torch.stack([*self.privates.values(), *self.shareds.values()], dim=0)
        tokens = self.transformer_encoder(tokens)
        return self.fusion(torch.cat(list(tokens), dim=1))

    def losses(self, prediction, y):
        """Each term, and their weighted sum, of the last `forward`."""
        terms = {
            "task": nn.functional.mse_loss(prediction[:, 0], y)
            if prediction.shape[1] == 1
            else nn.functional.cross_entropy(prediction, y),
            "similarity": self.domain_loss()
            if self.adversarial
            else sum(cmd(*pair) for pair in itertools.combinations(self.shareds.values(), 2)) / 3,
            "difference": sum(difference(self.privates[x], self.shareds[x]) for x in LETTERS)
            + sum(difference(*pair) for pair in itertools.combinations(self.privates.values(), 2)),
            "reconstruction": sum(nn.functional.mse_loss(self.reconstructed[x], self.projected[x]) for x in LETTERS)
            / 3,
        }
        terms["loss"] = terms["task"] + terms["similarity"] + 0.3 * terms["difference"] + terms["reconstruction"]
        return terms

    def domain_loss(self):
        logits = torch.cat([self.discriminator(Reverse.apply(self.shareds[x])) for x in LETTERS])
        rows = len(logits) // 3
        return nn.functional.cross_entropy(logits, torch.arange(3).repeat_interleave(rows))


def cmd(x, y, moments=5):
    """The published code takes roots of sums, whose slope at zero is infinite; the norm has a slope of zero there."""
    mean_x, mean_y = x.mean(0), y.mean(0)
    total = torch.linalg.vector_norm(mean_x - mean_y)
    for k in range(2, moments + 1):
        total = total + torch.linalg.vector_norm(((x - mean_x) ** k).mean(0) - ((y - mean_y) ** k).mean(0))
    return total


def difference(x, y):
    x, y = (z - z.mean(0, keepdim=True) for z in (x, y))
    x, y = (z / (z.norm(dim=1, keepdim=True).detach() + 1e-6) for z in (x, y))
    return ((x.T @ y) ** 2).mean()


class Bert(nn.Module):
    """A small `BertModel` without dropout, its parameters named as Hugging Face names them."""

    def __init__(self, vocabulary=30, hidden=128, layers=2, heads=2, intermediate=24, positions=16):
        super().__init__()
        self.heads = heads
        self.embeddings = nn.Module()
        self.embeddings.word_embeddings = nn.Embedding(vocabulary, hidden)
        self.embeddings.position_embeddings = nn.Embedding(positions, hidden)
        self.embeddings.token_type_embeddings = nn.Embedding(2, hidden)
        self.embeddings.LayerNorm = nn.LayerNorm(hidden, eps=1e-12)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(self.block(hidden, intermediate) for _ in range(layers))
        self.pooler = Misa.named(dense=nn.Linear(hidden, hidden))

    @staticmethod
    def block(hidden, intermediate):
        block = nn.Module()
        block.attention = nn.Module()
        block.attention.self = nn.ModuleDict({part: nn.Linear(hidden, hidden) for part in ("query", "key", "value")})
        block.attention.output = Bert.dense_and_norm(hidden, hidden)
        block.intermediate = Misa.named(dense=nn.Linear(hidden, intermediate))
        block.output = Bert.dense_and_norm(intermediate, hidden)
        return block

    @staticmethod
    def dense_and_norm(inputs, outputs):
        module = nn.Module()
        module.dense = nn.Linear(inputs, outputs)
        module.LayerNorm = nn.LayerNorm(outputs, eps=1e-12)
        return module

    def forward(self, input_ids, attention_mask):
        embeddings = self.embeddings
        x = embeddings.word_embeddings(input_ids) + embeddings.position_embeddings.weight[: input_ids.shape[1]]
        x = embeddings.LayerNorm(x + embeddings.token_type_embeddings.weight[0])
        for block in self.encoder.layer:
            query, key, value = (
                block.attention.self[part](x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for part in ("query", "key", "value")
            )
            scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
            scores = scores.masked_fill(attention_mask[:, None, None, :] == 0, float("-inf"))
            attended = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
            x = block.attention.output.LayerNorm(x + block.attention.output.dense(attended))
            inner = nn.functional.gelu(block.intermediate.dense(x))
            x = block.output.LayerNorm(x + block.output.dense(inner))
        return (x,)
