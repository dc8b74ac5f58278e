"""Every check fires where a fault is planted and nowhere else."""

# ruff: noqa: RUF001

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pseudo_translation import CHARACTERS, KEPT, PLAIN, hard_lines, pseudo
from review_world import faultless

from pipelines.translate.checks import CHECKS, check_lines
from pipelines.translate.lines import Line
from pipelines.translate.numbers import numbers
from pipelines.translate.options import read_glossary
from pipelines.translate.scripts import mixed_scripts
from pipelines.translate.terms import Terms

PLANTED = 40
NUMBERS = {"1984": "1948", "12,345.67": "12,345.76", "50%": "15%"}
TERM, TRANSLATED = "window", pseudo("window")
TOKENS = sorted((*KEPT, *PLAIN), key=len, reverse=True)
TOKEN = re.compile("|".join(map(re.escape, TOKENS)))
Plant = Callable[[Line, random.Random], Line | None]


def line(source: str, target: str | None, name: str = "0/question") -> Line:
    return Line(name, 0, "question", source, "", target, "machine" if target else "failed")


def fired(source: str, target: str, direction: str = "en-zh", terms: Terms | None = None) -> set:
    known = terms or Terms({})
    flags = check_lines([line(source, target)], direction, known)  # type: ignore[arg-type]
    return {flag.check for found in flags.values() for flag in found}


def words(source: str) -> list[str]:
    return re.findall("[a-z]+", TOKEN.sub(" ", source))


def empty(one: Line, chance: random.Random) -> Line | None:
    return replace(one, target=chance.choice(("", "  ", None)), error="quota")


def length(one: Line, chance: random.Random) -> Line | None:
    more = "".join(chance.choices(CHARACTERS.replace("一", ""), k=len(one.source) + 10))
    return replace(one, target=f"{one.target}{more}")


def untranslated(one: Line, chance: random.Random) -> Line | None:
    left = [word for word in words(one.source) if len(word) > 3 and word != TERM]
    target = one.target or ""
    for word in left[:2]:
        target = target.replace(pseudo(word), f" {word} ", 1)
    return replace(one, target=target) if len(left) > 5 else None


def changed_number(one: Line, chance: random.Random) -> Line | None:
    there = [number for number in NUMBERS if number in (one.target or "")]
    if not there:
        return None
    number = chance.choice(there)
    return replace(one, target=(one.target or "").replace(number, NUMBERS[number], 1))


def lost_name(one: Line, chance: random.Random) -> Line | None:
    source, target = with_name(one.source)
    return replace(one, source=source, target=target.replace("Alice ", "")) if target else None


def with_name(source: str) -> tuple[str, str]:
    """A name after the first two plain words that stand together, and its translation."""
    found = re.search(r"(?:^| )[a-z]{2,} (?=[a-z]{2,} )", source)
    if "`" in source or found is None:
        return "", ""
    before, after = source[: found.end()], source[found.end() :]
    return f"{before}Alice {after}", f"{faultless(before)}Alice {faultless(after)}"


def changed_token(one: Line, chance: random.Random) -> Line | None:
    there = [token for token in KEPT if token in one.source and "\n" not in token]
    if not there:
        return None
    token = chance.choice(there)
    other = chance.choice(("", f"{token} {token}", "{other}"))
    return replace(one, target=(one.target or "").replace(token, other, 1))


def unused_term(one: Line, chance: random.Random) -> Line | None:
    if TERM not in words(one.source):
        return None
    return replace(one, target=(one.target or "").replace(TRANSLATED, "牛马"))


def unbalanced(one: Line, chance: random.Random) -> Line | None:
    return replace(one, target=f"{one.target}{chance.choice('“(」')}" + chance.choice(("", "好")))


def mixed(one: Line, chance: random.Random) -> Line | None:
    has = set("这们国") & set(one.target or "")
    return replace(one, target=f"{one.target}{chance.choice('這們國說')}") if has else None


def loop(one: Line, chance: random.Random) -> Line | None:
    long = len(" ".join(words(one.source))) > 60
    return replace(one, target=f"{one.target}{'好看' * 7}") if long else None


def chatter(one: Line, chance: random.Random) -> Line | None:
    long = len(words(one.source)) > 10
    said = chance.choice(("好的，", "以下是翻译：", "译文翻译如下："))
    return replace(one, target=f"{said}{one.target}") if long else None


def line_break(one: Line, chance: random.Random) -> Line | None:
    found = re.search("[一-龥](?=[一-龥])", one.target or "")
    if found is None or TERM in words(one.source) or len(words(one.source)) <= 10:
        return None
    target = one.target or ""
    return replace(one, target=f"{target[: found.end()]}\n{target[found.end() :]}")


PLANTS: dict[str, Plant] = {
    "empty": empty,
    "numbers": changed_number,
    "glossary": unused_term,
    "names": lost_name,
    "loop": loop,
    "length": length,
    "untranslated": untranslated,
    "tokens": changed_token,
    "brackets": unbalanced,
    "scripts": mixed,
    "chatter": chatter,
    "lines": line_break,
}


def plant(lines: list[Line]) -> tuple[list[Line], dict[str, set[str]]]:
    """Faults on lines of their own; returns the lines and which have which."""
    chance, done, planted = random.Random(3), list(lines), {name: set() for name in CHECKS}
    waiting = chance.sample(range(len(lines)), len(lines))
    for at in [at for at in waiting if with_name(lines[at].source)[0]][:PLANTED]:
        source, target = with_name(lines[at].source)  # names that stay are no fault
        done[at] = replace(lines[at], source=source, target=target)
        waiting.remove(at)
    for name, fault in PLANTS.items():
        for at in list(waiting):
            if len(planted[name]) < PLANTED and (new := fault(lines[at], chance)):
                done[at] = new
                planted[name].add(new.id)
                waiting.remove(at)
    same = [at for at in waiting if TERM not in words(lines[at].source)][: 3 * PLANTED]
    waiting = [at for at in waiting if at not in same]
    while same:  # three of one source, and one of them says something else
        first, second, third = (same.pop() for _ in range(3))
        for at in (second, third):
            done[at] = replace(lines[first], id=lines[at].id)
        text = done[third].target or ""
        at = next(at for at, mark in enumerate(text) if "一" <= mark <= "龥")
        done[third] = replace(done[third], target=f"{text[:at]}好{text[at + 1 :]}")
        planted["inconsistent"].add(done[third].id)
    planted["duplicate"] = copy_targets(done, waiting)
    return done, planted


def copy_targets(lines: list[Line], waiting: list[int]) -> set[str]:
    """Targets of other lines that have the same tokens and few words in common."""
    copied: set[str] = set()
    kept: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for at in sorted(waiting):
        source = lines[at].source
        ours = set(words(source))
        if {TERM, "two"} & ours or not 5 <= len(words(source)) <= 9:
            continue
        breaks = ("\n" * source.count("\n"),)
        others = kept[(*breaks, *sorted(TOKEN.findall(source)))]
        for other in others:
            theirs = lines[other].source
            near = abs(len(source) - len(theirs)) < 8
            if near and len(ours & set(words(theirs))) <= 1 and len(copied) < PLANTED:
                lines[at] = replace(lines[at], target=lines[other].target)
                copied.add(lines[at].id)
                break
        else:
            others.append(at)
    return copied


def test_every_check_fires_where_planted_and_nowhere_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = enumerate(hard_lines(2000))
    lines = [line(text, faultless(text), f"{at}/question") for at, text in texts]
    terms = Terms({TERM: TRANSLATED})
    assert check_lines(lines, "en-zh", terms) == {}
    spoilt, planted = plant(lines)
    flags = check_lines(spoilt, "en-zh", terms)
    found = {
        name: {flag.id for every in flags.values() for flag in every if flag.check == name}
        for name in CHECKS
    }
    with capsys.disabled():
        print(f"\n{'check':14}{'planted':>8}{'found':>8}{'false':>8}{'precision':>11}{'recall':>8}")
        for name in CHECKS:
            right, false = len(found[name] & planted[name]), len(found[name] - planted[name])
            precision, recall = right / max(len(found[name]), 1), right / len(planted[name])
            counts = f"{len(planted[name]):8}{right:8}{false:8}"
            print(f"{name:14}{counts}{precision:11.3f}{recall:8.3f}")
    assert min(map(len, planted.values())) >= 20
    assert found == planted


def test_the_other_way_nothing_fires_on_faultless_lines() -> None:
    lines = [line(faultless(text), text, f"{at}/pred") for at, text in enumerate(hard_lines(2000))]
    assert check_lines(lines, "zh-en", Terms({})) == {}


@pytest.mark.parametrize(
    ("direction", "source", "target", "checks"),
    [
        ("en-zh", "What are the two men doing?", "这两个男人在做什么？", ""),
        ("en-zh", "What are the two men doing?", "这些男人在做什么？", "numbers"),
        ("en-zh", "What are the two men doing?", "这三个男人在做什么？", "numbers"),
        ("en-zh", "Both men sit together for ten minutes", "两个男人一起坐了十分钟", ""),
        ("en-zh", "There are twelve sandwiches.", "有12个三明治。", ""),
        ("en-zh", "There are 12 sandwiches.", "有十二个三明治。", ""),
        ("en-zh", "There are 12 sandwiches.", "有21个三明治。", "numbers"),
        ("en-zh", "It has 2 million views since May 3", "自5月3日以来，它有200万次观看", ""),
        ("en-zh", "It costs 10,000 or 3.50", "它要一万或3.5", ""),
        ("en-zh", "The man rides a skateboard on TV", "那个男人在电视上玩滑板", ""),
        ("en-zh", "The man rides a skateboard", "那个男人在玩skateboard", "untranslated"),
        ("en-zh", 'The sign says "please stop" there', "那里的牌子写着“please stop”", ""),
        ("en-zh", "The man in blue waves to John.", "穿蓝衣服的男人向John挥手。", ""),
        ("en-zh", "The man in blue waves to John.", "穿蓝衣服的男人向约翰挥手。", ""),
        ("en-zh", "They stand by the Eiffel Tower.", "他们站在埃菲尔铁塔旁。", ""),
        ("en-zh", "It is from the 1990s.", "这是20世纪90年代的。", ""),
        ("en-zh", "It is from the 1990s.", "这是二十世纪九十年代的。", ""),
        ("en-zh", "It is from the 1990s.", "这是20世纪80年代的。", "numbers"),
        ("en-zh", "They fought in World War II there.", "他们在第二次世界大战中在那里战斗。", ""),
        ("en-zh", "A trio sings", "三人组在唱歌", ""),
        ("en-zh", "She fries half a dozen eggs", "她煎了六个鸡蛋", ""),
        ("en-zh", "It is 50% off today", "今天五折", ""),
        ("en-zh", "It is 50% off today", "今天15折", "numbers"),
        ("en-zh", "Add 1/2 cup of milk", "加半杯牛奶", ""),
        ("en-zh", "It has 10k views", "它有一万次观看", ""),
        ("en-zh", "They hug each other", "两人互相拥抱", ""),
        ("en-zh", "It takes half an hour", "需要30分钟", ""),
        ("en-zh", "Dancing.", "Dancing.", "untranslated"),
        ("en-zh", "Dancing.", "ダンス。", "untranslated"),
        ("en-zh", "Dancing.", "Танцы.", "untranslated"),
        ("en-zh", "A man is dancing.", "好的，以下是翻译：一个男人在跳舞。", "chatter"),
        (
            "zh-en",
            "一个男人在跳舞。",
            "Sure, here is the translation: a man is dancing.",
            "chatter",
        ),
        ("en-zh", "He runs.\nShe walks.", "他跑步。她走路。", "lines"),
        ("en-zh", "The man runs 5 km in the park", "那个男人在公园里跑了5 km", ""),
        ("en-zh", "Look at <b>{name}</b> and %s", "看<b>{name}</b>和%s", ""),
        ("en-zh", "Look at <b>{name}</b> and %s", "看<b>{名字}</b>和%s", "tokens"),
        (
            "en-zh",
            "See https://example.org/a, then sleep",
            "请看https://example.org/a，然后睡觉",
            "",
        ),
        ("en-zh", "Why does the dog (the big one) bark?", "为什么狗（大的那只）在叫？", ""),
        ("en-zh", "Why does the dog (the big one) bark?", "为什么狗（大的那只在叫？", "brackets"),
        ("en-zh", "Why does the dog (the big one) bark?", "为什么狗(大的那只）在叫？", ""),
        ("en-zh", "The queen is behind the house", "皇后在房子后面", ""),
        ("en-zh", "What does the woman say to them?", "那个女人对他們说什么？", "scripts"),
        ("en-zh", "What does the woman say to them?", "那個女人對他們說什麼？", ""),
        ("en-zh", "Very, very, very good indeed", "非常非常非常好", ""),
        ("en-zh", "A man walks along a quiet street today.", "一" * 30, "loop"),
        ("en-zh", "A man walks along the street and then he stops.", "走。", "length"),
        ("zh-en", "这两个男人在做什么？", "What are the 2 men doing?", ""),
        ("zh-en", "这两个男人在做什么？", "What are both men doing?", ""),
        ("zh-en", "这三个男人在做什么？", "What are the men doing?", "numbers"),
        ("zh-en", "一个男人在跑步", "A man is running", ""),
        ("zh-en", "一个男人在跑步", "A 男人 is running", "untranslated"),
        ("zh-en", "Alice在公园里跑步", "A woman runs in the park", "names"),
        ("zh-en", "Alice在公园里跑步", "Alice runs in the park", ""),
        ("zh-en", "他说：“你好。”", 'He says: "Hello.', "brackets"),
        ("zh-en", "那个男人在公园里慢慢地走着", "A", "length"),
    ],
)
def test_of_real_sentences(direction: str, source: str, target: str, checks: str) -> None:
    assert fired(source, target, direction) == set(checks.split())


@pytest.mark.parametrize(
    ("language", "text", "sure", "maybe"),
    [
        ("en", "twenty-one, one hundred and five", [21, 105], []),
        ("en", "two thousand three hundred; 3.5 million", [2300, 3_500_000], []),
        ("en", "1,234 and 5,6", [1234, 5, 6], []),
        ("en", "one of the first two", [2], [1, 1]),
        ("en", "at 12:30 one of them falls, at 20 two", [12, 30, 20, 2], [1]),
        ("en", "someone often weighs a tent", [], []),
        ("zh", "三万五千人和１２只", [35000, 12], []),
        ("zh", "十分高兴，一起吃三明治", [], [10, 1, 3]),
        ("zh", "二〇〇三年，一百二十万元，3.5万", [35000], [2003, 1_200_000]),
        ("zh", "十二个，二百零五只", [12, 205], []),
    ],
)
def test_numbers_are_told_by_value(
    language: str, text: str, sure: list[int], maybe: list[int]
) -> None:
    surely, all_readings = numbers(text, language)
    assert surely == Counter(sure)
    assert all_readings == Counter(sure) + Counter(maybe)


def test_characters_that_both_standards_have_are_no_mixture() -> None:
    assert mixed_scripts("皇后在台上，干面里") == ("", "")
    assert mixed_scripts("这說") == ("这", "說")


def test_a_reason_says_what_was_got_and_wanted() -> None:
    flags = check_lines([line("Look at 12 {name}.", "看21。")], "en-zh", Terms({}))
    assert [flag.reason for flag in flags["0/question"]] == [
        "lost 12; got 21, wanted 12",
        "lost: {name}; got none, wanted {name}",
    ]


def test_a_number_that_comes_less_often_is_not_called_lost() -> None:
    flags = check_lines([line("He has 3 cats and 3 dogs.", "他有3只猫和狗。")], "en-zh", Terms({}))
    (flag,) = flags["0/question"]
    assert flag.reason == "3 not as often; got 3, wanted 3"


def test_a_name_is_lost_where_other_lines_have_it_in_either_script() -> None:
    pairs = [
        ("They saw John in the park.", "他们在公园看见约翰。"),
        ("They saw John in the house.", "他们在房子里看见约翰。"),
        ("They saw John in the car.", "他们在车里看见他。"),
        ("They saw John in the zoo.", "他们在动物园看见John。"),
        ("They saw a park.", "他们看见公园。"),
        ("They saw a house.", "他们看见房子。"),
        ("They saw a car.", "他们看见汽车。"),
        ("They saw a zoo.", "他们看见动物园。"),
    ]
    lines = [line(*pair, f"{at}/question") for at, pair in enumerate(pairs)]
    flags = check_lines(lines, "en-zh", Terms({}))
    assert {name: [flag.check for flag in found] for name, found in flags.items()} == {
        "2/question": ["names"]
    }
    assert "John" in flags["2/question"][0].reason


def test_one_question_in_two_contexts_may_be_translated_in_two_ways() -> None:
    lines = [
        replace(line("Right.", target, f"{at}/answer"), context=context)
        for at, (context, target) in enumerate([("which side", "右边。"), ("is it so", "对。")] * 2)
    ]
    assert check_lines(lines, "en-zh", Terms({})) == {}


def test_rejected_lines_are_not_checked_and_failed_ones_are_empty() -> None:
    lines = [
        replace(line("a", None, "a"), error="quota"),
        replace(line("b", ""), status="rejected"),
    ]
    flags = check_lines(lines, "en-zh", Terms({}))
    assert [(flag.check, flag.reason) for flag in flags["a"]] == [
        ("empty", "got no text: quota, wanted a translation")
    ]
    assert set(flags) == {"a"}


def test_the_longest_term_counts_and_only_as_a_word(tmp_path: Path) -> None:
    file = tmp_path / "terms.tsv"
    file.write_text("\ufeffball\t球\nball game\t球赛\n\n西瓜\tmelon\n", encoding="utf-8")
    terms = Terms(read_glossary(file))
    assert list(terms.unused("A Ball game, footballs", "球赛")) == []
    assert list(terms.unused("a ball game", "球")) == [("ball game", "球赛")]
    assert list(terms.unused("a ballad, a ball", "歌")) == [("ball", "球")]
    assert list(terms.unused("他吃西瓜皮", "He eats.")) == [("西瓜", "melon")]
