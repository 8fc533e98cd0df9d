"""What does not fit, as a code with parameters; words in both languages are made when somebody reads it.

Every refusal of the ledger is a ``LedgerError`` whose ``fault`` stands in ``FAULTS``; a test holds that each of them really
happens.
"""

from collections.abc import Mapping

from hengliu.events.family import Text

__all__ = ["FAULTS", "LedgerError"]

FAULTS: Mapping[str, Text] = {
    # Merkle tree
    "hash-length": Text("散列长度为 {length} 字节，应为 {expected}。", "A hash has {length} bytes; it has to have {expected}."),
    "size-range": Text("树的大小 {size} 超出 0 到 2^63-1。", "The tree size {size} is not within 0 to 2^63-1."),
    "index-range": Text("叶序号 {index} 不在大小为 {size} 的树内。", "Leaf {index} is not in a tree of {size} leaves."),
    "sizes-order": Text("旧树（{old}）比新树（{new}）大。", "The old tree ({old} leaves) is larger than the new one ({new})."),
    "proof-length": Text(
        "证明有 {length} 个散列，应为 {expected} 个。", "The proof has {length} hashes; it has to have {expected}."
    ),
    "inclusion-root": Text(
        "包含证明算出的根与检查点的根不同。", "The inclusion proof leads to another root than the checkpoint's."
    ),
    "consistency-old-root": Text("一致性证明算出的旧根不同。", "The consistency proof leads to another old root."),
    "consistency-new-root": Text("一致性证明算出的新根不同。", "The consistency proof leads to another new root."),
    "roots-differ": Text("大小同为 {size} 的两棵树根不同。", "Two trees of {size} leaves have different roots."),
    "empty-root": Text("空树的根不是空串的散列。", "The root of an empty tree is not the hash of nothing."),
    "frontier": Text(
        "封存状态损坏：{length} 字节与大小 {size} 不符。", "The sealing state is damaged: {length} bytes for {size} leaves."
    ),
    # Tiles and bundles
    "tile-path": Text("不是瓦片路径：{path}", "Not the path of a tile: {path}"),
    "tile-shape": Text(
        "没有这样的瓦片：层 {level}、序号 {index}、宽 {width}。",
        "There is no tile of level {level}, index {index}, width {width}.",
    ),
    "tile-length": Text(
        "瓦片 {path} 有 {length} 字节，应为 {expected}。", "Tile {path} has {length} bytes; it has to have {expected}."
    ),
    "tile-edge": Text("瓦片 {path} 与封存状态不符。", "Tile {path} contradicts the sealing state."),
    "entry-length": Text("条目有 {length} 字节，最多 {limit}。", "An entry has {length} bytes; {limit} are allowed."),
    "bundle-width": Text("条目包 {path} 不是 {width} 个条目。", "Bundle {path} does not hold {width} entries."),
    "bundle-end": Text("条目包 {path} 在条目中间结束。", "Bundle {path} ends within an entry."),
    # Keys and notes
    "key-text": Text("不是密钥文本。", "Not the text of a key."),
    "key-kind": Text("未知的签名类型。", "An unknown type of signature."),
    "key-length": Text("密钥有 {length} 字节，应为 {expected}。", "The key has {length} bytes; it has to have {expected}."),
    "key-id": Text("密钥标识与名称和公钥不符。", "The key's id does not follow from its name and public key."),
    "key-name": Text("密钥名称为空或含空白或加号。", "A key's name is empty or holds a space or a plus."),
    "key-point": Text("公钥不是 SM2 曲线上的点。", "The public key is no point of the SM2 curve."),
    "key-range": Text("私钥超出范围。", "The private key is out of range."),
    "keys-ambiguous": Text("有两把名称和标识相同的密钥。", "Two of the keys have the same name and id."),
    "note-bytes": Text("签名文本不是 UTF-8 或含控制字符。", "The note is not UTF-8 or holds control characters."),
    "note-size": Text("签名文本有 {length} 字节，最多 {limit}。", "The note has {length} bytes; {limit} are allowed."),
    "note-text": Text("待签文本不以换行结束。", "The text to sign does not end with a newline."),
    "note-form": Text("签名文本没有空行后的签名。", "The note has no signatures behind a blank line."),
    "signature-line": Text("第 {line} 行签名格式不对。", "Signature line {line} is malformed."),
    "signatures-many": Text("签名有 {count} 个，最多 {limit}。", "There are {count} signatures; {limit} are allowed."),
    "signature-bad": Text("{name} 的签名不成立。", "The signature of {name} does not verify."),
    "signature-none": Text("没有任何已知密钥的签名。", "No known key has signed."),
    "time-range": Text("时间 {time} 超出范围。", "The time {time} is out of range."),
    # Checkpoints
    "checkpoint-lines": Text("检查点少于三行或有空行。", "The checkpoint has less than three lines, or an empty one."),
    "checkpoint-size": Text("检查点的大小不是十进制整数。", "The checkpoint's size is not a decimal integer."),
    "checkpoint-root": Text(
        "检查点的根不是 {expected} 字节的 Base64。", "The checkpoint's root is not Base64 of {expected} bytes."
    ),
    "checkpoint-origin": Text("检查点属于 {origin}，不是 {expected}。", "The checkpoint is of {origin}, not of {expected}."),
    # Sealing
    "sealing-empty": Text("没有要封存的记录。", "There are no records to seal."),
    "sealing-origin": Text(
        "封存状态属于 {origin}（{suite}），设置为 {expected}。",
        "The sealing state is of {origin} ({suite}); the settings say {expected}.",
    ),
    "sealing-end": Text(
        "日志 {log} 到位置 {end} 为止，已签名到 {position}：日志被截断或恢复成旧的。",
        "Log {log} ends at {end}; it was signed up to {position}: it was cut, or restored to an older one.",
    ),
    "sealing-behind": Text(
        "{log} 已公布 {published} 条的检查点，封存状态只有 {size} 条：任务状态被恢复成旧的。",
        "{log} has a published checkpoint over {published} leaves, the sealing state has {size}: it is an older one.",
    ),
    "tile-missing": Text("缺少瓦片 {path}。", "Tile {path} is missing."),
    # Witnesses
    "request-size": Text("见证请求有 {length} 字节，最多 {limit}。", "The request has {length} bytes; {limit} are allowed."),
    "request-line": Text("见证请求第 {line} 行不对。", "Line {line} of the request to a witness is malformed."),
    # Receipts
    "receipt-size": Text("凭证有 {length} 字节，最多 {limit}。", "The receipt has {length} bytes; {limit} are allowed."),
    "receipt-form": Text("不是凭证：{detail}", "Not a receipt: {detail}"),
    "receipt-suite": Text("密钥不属于凭证的算法套件 {suite}。", "The keys are not of the receipt's suite {suite}."),
    "policy": Text("要求 {least} 个见证，只有 {witnesses} 个。", "{least} witnesses are asked for; there are {witnesses}."),
    "witnesses-few": Text(
        "只有 {count} 个见证签署，要求 {least} 个。", "{count} witnesses have cosigned; {least} are asked for."
    ),
    # Records and the index of offsets
    "leaf-text": Text("字段 {name} 不能写成 UTF-8。", "Field {name} cannot be written as UTF-8."),
    "leaf-form": Text("不是记录的叶。", "Not the leaf of a record."),
    "offsets-order": Text("位移 {offset} 不大于前一个。", "Offset {offset} is not above the one before it."),
    "offsets-run": Text("位移索引条目损坏。", "An entry of the index of offsets is damaged."),
    "offsets-rank": Text(
        "位移索引从第 {rank} 条开始，应从 {expected} 开始。",
        "A run of offsets starts at {rank}; it has to start at {expected}.",
    ),
}
"""Fault code to its words."""


class LedgerError(ValueError):
    """Something does not fit. ``fault`` is a code of ``FAULTS``, ``parameters`` fill its words."""

    def __init__(self, fault: str, **parameters: object) -> None:
        self.fault = fault
        self.parameters = parameters
        super().__init__(self.words.en)

    @property
    def words(self) -> Text:
        """The sentence in Chinese and English."""
        text = FAULTS[self.fault]
        return Text(text.zh.format(**self.parameters), text.en.format(**self.parameters))
