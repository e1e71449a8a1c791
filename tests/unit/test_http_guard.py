import pytest

from rollup_operator.http.errors import ApiError
from rollup_operator.http.guard import check_caller


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost:9400"},
        {"Host": "127.0.0.1"},
        {"Host": "[::1]:9400"},
        {"Host": "10.1.2.3:9400"},
        {"Host": "localhost:9400", "Origin": "http://localhost:9400"},
    ],
)
def test_callers_on_this_machine_are_let_in(headers: dict[str, str]) -> None:
    check_caller(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:9400", "Origin": "https://page.example"},
        {"Host": "localhost:9400", "Origin": "http://localhost:8080"},
        {"Host": "localhost:9400", "Origin": "null"},
        {"Host": "page.example:9400", "Origin": "http://page.example:9400"},
        {"Host": "page.example:9400"},
        {"Host": "localhost.page.example"},
        {"Host": "[::1"},
    ],
)
def test_web_pages_of_elsewhere_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ApiError) as caught:
        check_caller(headers)
    assert caught.value.status == 403
    assert "is refused" in caught.value.reason
